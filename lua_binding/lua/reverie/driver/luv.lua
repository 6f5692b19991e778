-- Waiting in a program that runs libuv: one poll handle and one timer per client, there only while it has jobs or
-- somebody waits, so that uv.run returns when all is done.
local core = require "reverie.core"
local uv = require "luv"

local luv = {}
luv.__index = luv

function luv.new()
  return setmetatable({ parked = {} }, luv)
end

function luv:arm(client)
  local due = client:timeout()
  due = due and core.now() + due
  for _, at in pairs(self.parked) do
    due = at and math.min(due or at, at) or due
  end
  if due then
    self.timer:start(math.max(0, math.ceil((due - core.now()) * 1000)), 0, self.turn)
  else
    self.timer:stop()
  end
end

function luv:start(client)
  if self.poll then
    return
  end
  self.poll, self.timer = uv.new_poll(client:pollfd()), uv.new_timer()
  function self.turn()
    self:serve(client)
  end
  self.poll:start("r", self.turn)
  self:arm(client)
end

function luv:stop()
  if self.poll then
    self.poll:stop()
    self.poll:close()
    self.timer:close()
    self.poll, self.timer, self.turn = nil, nil, nil
  end
  self:wake()
end

-- Everybody gets a turn, then the first error goes to the loop.
function luv:wake()
  local waiting, failed, first = {}, false, nil
  for co in pairs(self.parked) do
    waiting[#waiting + 1] = co
  end
  for _, co in ipairs(waiting) do
    local is_waiting = self.parked[co] ~= nil and coroutine.status(co) == "suspended"
    self.parked[co] = nil
    if is_waiting then
      local ok, message = coroutine.resume(co)
      if not ok and not failed then
        failed, first = true, type(message) == "string" and debug.traceback(co, message) or message
      end
    end
  end
  if failed then
    error(first, 0)
  end
end

function luv:serve(client)
  local ok, message = pcall(client.dispatch, client)
  self:wake()
  if self.poll then
    if client:live() == 0 and next(self.parked) == nil then
      self:stop()
    else
      self:arm(client)
    end
  end
  if not ok then
    error(message, 0)
  end
end

function luv:wait(client, seconds)
  local co, is_main = coroutine.running()
  self:start(client)
  if co and not is_main then
    self.parked[co] = seconds and core.now() + seconds or false
    self:arm(client)
    coroutine.yield()
    self.parked[co] = nil
    return
  end
  -- On the main thread nobody else runs the loop.
  local alarm
  if seconds then
    alarm = uv.new_timer()
    alarm:start(math.ceil(seconds * 1000), 0, function() end)
  end
  uv.run("once")
  if alarm then
    alarm:close()
  end
end

return luv
