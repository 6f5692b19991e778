--- Many requests, some at once: takes them from a list or an iterator as there is room, so that a million prompts need
-- no memory, and gives results in order of readiness or of asking.  Made by `each` of a client.
-- @classmod reverie.each
local failure = require "reverie.failure"

local each = { __name = "reverie.each" }
each.__index = each

local function supplier(requests)
  if type(requests) == "function" then
    return requests
  end
  local meta = getmetatable(requests)
  if type(meta) == "table" and meta.__call then
    return function() return requests() end
  end
  local i = 0
  return function()
    i = i + 1
    return requests[i]
  end
end

local function cancel_all(running)
  for _, entry in ipairs(running) do
    if entry.job then
      entry.job:cancel()
    end
  end
end

-- Forgetting the iterator stops what it started.  The guard knows the jobs, not the iterator.
local function guard(running)
  local proxy = rawget(_G, "newproxy")
  if proxy then -- 5.1 and LuaJIT, where tables have no __gc
    local guarded = proxy(true)
    getmetatable(guarded).__gc = function() cancel_all(running) end
    return guarded
  end
  return setmetatable({}, { __gc = function() cancel_all(running) end })
end

--- @local
function each.new(client, requests, how)
  how = how or {}
  local running = {}
  return setmetatable({
    _client = client, _how = how, _next = supplier(requests), _running = running, _guard = guard(running),
    _parallel = math.max(1, how.parallel or client._parallel), _in_order = how.order == "asked",
  }, each)
end

function each:_submit(request)
  local job, message, err = self._client:_submit(request, self._how)
  if job and self._how.started then
    self._how.started(job, request)
  end
  return { request = request, job = job, message = message, err = err }
end

-- A full queue is no failure while our own jobs fill it.
function each:_fill()
  while not self._is_dry and #self._running < self._parallel do
    local request = self._held or self._next()
    self._held = nil
    if request == nil then
      self._is_dry = true
      return
    end
    local entry = self:_submit(request)
    if not entry.job and entry.err.code == "busy" and #self._running > 0 then
      self._held = request
      return
    end
    table.insert(self._running, entry)
  end
end

-- The place of the entry to give next: the first asked, or the first that ended.
function each:_ready()
  local best, earliest = nil, math.huge
  for i, entry in ipairs(self._running) do
    local ended = not entry.job and 0 or entry.job.ended
    if self._in_order then
      return ended and i
    elseif ended and ended < earliest then
      best, earliest = i, ended
    end
  end
  return best
end

--- The next result: request, images, or request, nil, message, error; nil at the end.
function each:next()
  while true do
    self:_fill()
    local i = self:_ready()
    if i then
      local entry = table.remove(self._running, i)
      if not entry.job then
        return entry.request, nil, entry.message, entry.err
      elseif entry.job.state ~= "done" then
        return entry.request, failure.of(entry.job.error)
      end
      return entry.request, entry.job._results
    elseif #self._running == 0 then
      return nil
    end
    self._client:_wait()
  end
end

--- Takes no more requests and stops what runs.
function each:close()
  self._is_dry, self._held = true, nil
  cancel_all(self._running)
  for i = #self._running, 1, -1 do
    self._running[i] = nil
  end
end

each.__call = each.next
each.__close = each.close

return each
