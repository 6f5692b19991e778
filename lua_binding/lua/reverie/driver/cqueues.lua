-- Waiting inside a cqueues controller.  The client itself is what cqueues polls: it has pollfd, events and timeout.
local cqueues = require "cqueues"

local driver = {}
driver.__index = driver

function driver.new()
  return setmetatable({}, driver)
end

function driver.wait(_, client, seconds)
  if cqueues.running() then
    if seconds then
      cqueues.poll(client, seconds)
    else
      cqueues.poll(client)
    end
  else
    client:poll(seconds)
  end
  client:dispatch()
end

return driver
