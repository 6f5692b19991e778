-- Waiting inside nginx with its Lua module, which has no call to watch a foreign descriptor: the request sleeps for
-- short times, first very short, and dispatches in between.  Other requests of the worker go on meanwhile.
local ngx = ngx -- luacheck: ignore 113

local FIRST, LONGEST = 0.001, 0.016

local may_sleep = { rewrite = true, access = true, content = true, timer = true, ssl_cert = true }

local driver = {}
driver.__index = driver

function driver.new()
  return setmetatable({ naps = setmetatable({}, { __mode = "k" }) }, driver)
end

-- Naps of one request double from turn to turn.
function driver:nap(co, seconds)
  local nap = self.naps[co] or FIRST
  self.naps[co] = math.min(nap * 2, LONGEST)
  return math.min(nap, seconds or nap)
end

function driver:wait(client, seconds)
  local due = client:timeout()
  if due then
    seconds = math.min(seconds or due, due)
  end
  if may_sleep[ngx.get_phase()] then
    ngx.sleep(math.max(0, self:nap(coroutine.running() or self, seconds)))
  else
    client:poll(seconds)
  end
  client:dispatch()
end

return driver
