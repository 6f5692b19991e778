--- Jobs: one request on its way to its pictures.
-- Fields: state, error, uuid, count, request, task.
-- @classmod reverie.job

-- All waiting is a loop here around the client's driver, so the same code serves every Lua and every event loop.
-- Nothing in this file may wait inside pcall or a metamethod: Lua 5.1 could not yield there.
local core = require "reverie.core"
local failure = require "reverie.failure"

local FIRST_DELAY, LONGEST_DELAY = 0.5, 30 -- seconds between attempts when the other side names none

local job = {}
job.__index = job
job.__name = "reverie.job"

local iterator = { __name = "reverie.iterator" }
iterator.__index = iterator

-- In a for loop the object is called; in a Lua 5.1 coroutine, which cannot wait there, use it:next().
function iterator.__call(it)
  return it:next()
end

local function iterate(next)
  return setmetatable({ next = function() return next() end }, iterator)
end

--- @local
function job.new(client, batch, index, request, how)
  local task, facts = batch:task(index)
  return setmetatable({
    client = client, request = request, task = task, uuid = task.taskUUID, count = facts.images, state = "queued",
    attempts = 0, _retries = how.retries or client._retries or 0, _timeout = how.timeout or client._timeout,
    _batch = batch, _index = index, _handlers = {}, _cursors = {}, _results = {}, _order = {}, _serial = 0,
    _preview_serial = 0,
  }, job)
end

-- ---- what the core says -------------------------------------------------------------------------------------

function job:_emit(kind, ...)
  for cursor in pairs(self._cursors) do
    cursor[#cursor + 1] = { kind, ... }
  end
  for _, handler in ipairs(self._handlers[kind] or {}) do
    self.client:_call(handler, ...)
  end
end

function job:_start()
  local submitted, message, err = self.client:_launch(self)
  if not submitted then
    return nil, message, err
  end
  self._core = submitted
  self.attempts = self.attempts + 1
  if self._timeout and not self._deadline then
    self._deadline = core.now() + self._timeout
  end
  return true
end

function job:_collect()
  for index = 1, self.count do
    local image = not self._results[index] and self._core:image(index)
    if image then
      self._results[index] = image
      self._order[#self._order + 1] = index
      self:_emit("image", image, index)
    end
  end
end

function job:_hear(position, started, index, step, steps, preview, of, has_image, ended)
  if position then
    self.position = position
    self:_emit("queued", position)
  end
  if started then
    self.state = "running"
    self:_emit("started")
  end
  if step then
    self._serial = self._serial + 1
    self._step, self._steps, self._step_index = step, steps, index
    self:_emit("step", step, steps, index)
  end
  if preview then
    self._preview_serial = self._preview_serial + 1
    self._preview, self._preview_index = preview, of
    self:_emit("preview", preview, of)
  end
  if has_image then
    self:_collect()
  end
  if ended then
    self:_finish(self._core:state(), self._core:error())
  end
end

-- Ends the job, or has it tried again later.
function job:_finish(state, err)
  if state == "failed" and err.retryable and self.attempts <= self._retries and not self._is_cancelled then
    local delay = math.min(FIRST_DELAY * 2 ^ (self.attempts - 1), LONGEST_DELAY) * (0.75 + math.random() / 2)
    self._due = core.now() + (err.retry_after or delay)
    self.state = "queued"
    self:_emit("retry", err, self.attempts)
    return
  end
  if state == "stopped" and self._is_late then
    state, err = "failed", failure.new("timeout", ("no picture within %g seconds"):format(self._timeout))
  end
  if err then
    err.attempts = math.max(err.attempts or 1, self.attempts)
    err.job = self.uuid
  end
  self.state, self.error = state, err
  self._due, self._deadline, self._batch = nil, nil, nil
  self.ended = self.client:_ended(self) -- a number that tells who ended first
  self:_emit("end", state, err)
  self._handlers = {}
end

-- Called with the time: deadlines and attempts that are due.
function job:_tick(now)
  if self._deadline and now >= self._deadline and not self._is_late then
    self._is_late = true
    self:cancel()
  elseif self._due and now >= self._due then
    self._due = nil
    local ok, _, err = self:_start()
    if not ok then
      self.attempts = self.attempts + 1
      self:_finish("failed", err)
    end
  end
end

-- ---- for users ----------------------------------------------------------------------------------------------

--- Calls a function at events: "queued" (position), "started", "step" (step, steps, index), "preview" (image, index),
-- "image" (image, index), "retry" (error, attempts), "end" (state, error).
-- @tparam string kind the event
-- @tparam function handler runs inside dispatch; should not wait
-- @treturn job itself
function job:on(kind, handler)
  self._handlers[kind] = self._handlers[kind] or {}
  table.insert(self._handlers[kind], handler)
  return self
end

--- Asks to stop; "end" still follows.  A service may bill the task all the same.
function job:cancel()
  if self.ended then
    return
  end
  self._is_cancelled = true
  if self._due then -- between two attempts
    self._due = nil
    self:_finish("stopped", failure.new("cancelled", "the task was cancelled"))
  else
    self._core:cancel()
  end
end

-- Waits for a condition; false when the job ended or time is over without it.
function job:_until(is_met, seconds)
  local limit = seconds and core.now() + seconds
  while not is_met(self) do
    local left = limit and limit - core.now()
    if self.ended or left and left <= 0 then
      return false
    end
    self.client:_wait(left)
  end
  return true
end

local function has_ended(self)
  return self.ended
end

--- Waits for the pictures.
-- @tparam[opt] number seconds how long; code "timeout" leaves the job running
-- @return list of images, or nil, message, error
function job:wait(seconds)
  if not self:_until(has_ended, seconds) then
    return self.client:_settle(failure.say("timeout", ("the job still runs after %g seconds"):format(seconds)))
  elseif self.state ~= "done" then
    return self.client:_settle(failure.of(self.error))
  end
  local images = {}
  for index, image in ipairs(self._results) do
    images[index] = image
  end
  return images
end

--- The newest step.
-- @return step, steps, index of the picture; 0 before the first step, steps is nil until it is known
function job:progress()
  return self._step or 0, self._steps, self._step_index
end

--- Iterates pictures as they get ready: `for image, index in job:images() do`.
-- After the last one, job.state and job.error tell how it ended.
function job:images()
  local told = 0
  return iterate(function()
    if self:_until(function() return #self._order > told end) then
      told = told + 1
      return self._results[self._order[told]], self._order[told]
    end
  end)
end

-- Iterates the newest of something that may be overtaken.
local function newest(self, serial, values)
  local seen = 0
  return iterate(function()
    if self:_until(function() return self[serial] > seen end) then
      seen = self[serial]
      return values()
    end
  end)
end

--- Iterates steps: `for step, steps, index in job:steps() do`; steps that came meanwhile are skipped.
function job:steps()
  return newest(self, "_serial", function() return self._step, self._steps, self._step_index end)
end

--- Iterates small pictures of what is being made: `for image, index in job:previews() do`.  The client's option
-- preview_steps says how often there is one.
function job:previews()
  return newest(self, "_preview_serial", function() return self._preview, self._preview_index end)
end

--- Iterates all events from now on: `for kind, ... in job:events() do`, with what `on` handlers get.
function job:events()
  local queue = {}
  self._cursors[queue] = true
  return iterate(function()
    if self:_until(function() return #queue > 0 end) then
      local event = table.remove(queue, 1)
      return event[1], event[2], event[3], event[4], event[5]
    end
  end)
end

function job:__tostring()
  return ("reverie.job %s (%s)"):format(self.uuid, self.state)
end

-- Leaving the scope of `local job <close>` stops it; forgetting it does not.
function job:__close()
  self:cancel()
end

return job
