-- Waiting in plain Lua: poll on the client's descriptor.  Coroutines started with client:go wait side by side, served
-- by client:run or by whoever waits on the main thread.
local core = require "reverie.core"

local block = {}
block.__index = block

function block.new()
  return setmetatable({ own = setmetatable({}, { __mode = "k" }), parked = {} }, block)
end

local function resume(co, ...)
  local ok, message = coroutine.resume(co, ...)
  if not ok then
    error(type(message) == "string" and debug.traceback(co, message) or message, 0)
  end
end

--- One turn of the loop: waits, dispatches, resumes whoever is parked.
function block:turn(client, seconds)
  local now = core.now()
  for _, due in pairs(self.parked) do
    if due then
      seconds = math.min(seconds or math.huge, math.max(0, due - now))
    end
  end
  client:poll(seconds)
  client:dispatch()
  local waiting = {}
  for co in pairs(self.parked) do
    waiting[#waiting + 1] = co
  end
  for _, co in ipairs(waiting) do
    local is_waiting = self.parked[co] ~= nil and coroutine.status(co) == "suspended"
    self.parked[co] = nil
    if is_waiting then
      resume(co)
    end
  end
end

function block:wait(client, seconds)
  local co = coroutine.running()
  if co and self.own[co] then
    self.parked[co] = seconds and core.now() + seconds or false
    coroutine.yield()
    self.parked[co] = nil
  else
    self:turn(client, seconds)
  end
end

--- Starts a coroutine that may wait while others go on.
function block:go(_, f, ...)
  local co = coroutine.create(f)
  self.own[co] = true
  resume(co, ...)
end

--- Goes on until every coroutine and every job has ended.
function block:run(client)
  while next(self.parked) or client:live() > 0 do
    self:turn(client)
  end
end

return block
