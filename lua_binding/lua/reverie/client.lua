--- Clients: one context of the core with its engine, its settings, its jobs and a driver to wait with.
-- Made by `reverie.client`; the functions of the module are the methods of a client they share.
-- @classmod reverie.client
local core = require "reverie.core"
local drivers = require "reverie.driver"
local each = require "reverie.each"
local failure = require "reverie.failure"
local job = require "reverie.job"

local SOCKET = "/run/reverie/reveried.sock" -- where the packaged daemon listens

local client = {}
client.__index = client
client.__name = "reverie.client"

-- Options of the Lua half; all others are settings of the core.
local own = { engine = true, defaults = true, timeout = true, retries = true, parallel = true, driver = true,
  log = true, throw = true }

-- ---- making -------------------------------------------------------------------------------------------------

local function engine_settings(engine)
  if engine == nil or engine == "auto" then
    engine = os.getenv("REVERIE_ENGINE") or core.readable(SOCKET) and "daemon" or "local"
  end
  if engine == "local" then
    return engine
  elseif engine == "stub" then
    return engine, "executor", "stub"
  elseif engine == "daemon" then
    return engine, "daemon", "unix:" .. SOCKET
  elseif engine:find("^unix:") or engine:find("^https?://") then
    return engine, "daemon", engine
  end
  error(("engine: %q is not auto, local, stub, daemon, unix:PATH or an address"):format(engine), 4)
end

local function text_of(value)
  if type(value) == "boolean" then
    return value and "on" or "off"
  elseif type(value) == "number" then
    return ("%.0f"):format(value)
  end
  return value
end

local function apply(self, name, value)
  for _, one in ipairs(type(value) == "table" and value or { value }) do
    local ok, message, err = self._core:set(name, text_of(one))
    if not ok then
      return nil, message, err
    end
  end
  return true
end

local function configure(self, options, name, value)
  local settings = {}
  for key in pairs(options) do
    if not own[key] then
      settings[#settings + 1] = key
    end
  end
  table.sort(settings)
  if name then
    local ok, message, err = apply(self, name, value)
    if not ok then
      return nil, message, err
    end
  end
  if options.models == nil and os.getenv("REVERIE_MODELS") then
    local ok, message, err = apply(self, "models", os.getenv("REVERIE_MODELS"))
    if not ok then
      return nil, message, err
    end
  end
  for _, key in ipairs(settings) do
    local ok, message, err = apply(self, key, options[key])
    if not ok then
      return nil, message, err
    end
  end
  return true
end

--- @local
function client.new(options)
  options = options or {}
  local engine, name, value = engine_settings(options.engine)
  local driver = drivers.choose(options.driver)
  local handle, message, err = core.client()
  if not handle then
    return nil, message, err
  end
  local self = setmetatable({
    engine = engine, _core = handle, _driver = driver, _defaults = options.defaults or {}, _live = {},
    _by_id = {}, _last_id = 0, _shapes = {}, _retries = options.retries or 0, _timeout = options.timeout,
    _parallel = options.parallel or 4, _log = options.log, _throws = options.throw,
    _stats = { submitted = 0, done = 0, failed = 0, stopped = 0, images = 0 }, _ends = 0,
  }, client)
  local ok
  ok, message, err = configure(self, options, name, value)
  if not ok then
    handle:close()
    return nil, message, err
  end
  if self._log then
    handle:start_log()
  end
  return self
end

-- Results as the client's owner wants them: returned, or raised.
function client:_settle(value, message, err)
  if value == nil and err and self._throws then
    error(err, 0)
  end
  return value, message, err
end

-- ---- requests -----------------------------------------------------------------------------------------------

local function copy(into, from)
  for key, value in pairs(from) do
    into[key] = value
  end
  return into
end

-- What a person need not say: the kind of task, its identity, the model when nobody chose one.
function client:_complete(request)
  local full = copy(copy({}, self._defaults), request)
  full.taskType = full.taskType or "imageInference"
  if full.taskType == "imageInference" then
    full.taskUUID = full.taskUUID or core.uuid()
    full.model = full.model or self:_first_model()
  end
  return full
end

-- The model that is called "default", else the first.
function client:_first_model()
  if self._model == nil then
    local models = self._core:models() or {}
    self._model = self:_shape("default") and "default" or models[1] and models[1].id or false
  end
  return self._model or nil
end

function client:_shape(model)
  if type(model) ~= "string" then
    return nil
  end
  if self._shapes[model] == nil then
    self._shapes[model] = self._core:schema(model) or false
  end
  return self._shapes[model] or nil
end

local function refused(path, problem)
  local name = path == "" and "the request" or path
  return failure.of(failure.from_issues { {
    task = 0, paths = { "" }, parameter = path ~= "" and path or nil, code = "invalidRequestBody", rule = "type",
    message = name .. " " .. problem,
  } })
end

local function is_list(request)
  return type(request[1]) == "table"
end

function client:_text(request)
  if type(request) == "string" then
    return request
  elseif type(request) ~= "table" then
    error("a request is a table, a list of tables or JSON text", 4)
  end
  local texts = {}
  for i, one in ipairs(is_list(request) and request or { request }) do
    local full = type(one) == "table" and self:_complete(one) or one
    local text, path, problem = core.encode(full, type(full) == "table" and self:_shape(full.model) or nil)
    if not text then
      return refused(path, problem)
    end
    texts[i] = text
  end
  return is_list(request) and "[" .. table.concat(texts, ",") .. "]" or texts[1]
end

-- The checked batch and its warnings, or nil, message, error.
function client:_parse(request)
  local text, message, err = self:_text(request)
  if not text then
    return nil, message, err
  end
  local batch
  batch, message, err = self._core:parse(text)
  if not batch then
    return nil, message, err
  end
  local errors, issues = batch:issues()
  if errors > 0 then
    return failure.of(failure.from_issues(issues))
  end
  return batch, issues
end

--- Checks a request, or a list, or JSON text, without sending anything.
-- @return true and a list of warnings; or nil, message, error with every problem in error.issues
function client:check(request)
  local batch, message, err = self:_parse(request)
  if not batch then
    return self:_settle(nil, message, err)
  end
  return true, message
end

--- What a request would make and cost, without making it.
-- @return { model, images, width, height, steps, cost, task }, or nil, message, error
function client:plan(request)
  local batch, message, err = self:_parse(request)
  if not batch then
    return self:_settle(nil, message, err)
  end
  local task, facts = batch:task(1)
  facts.task, facts.width, facts.height, facts.steps = task, task.width, task.height, task.steps
  return facts
end

--- The parameters of a model as a JSON schema; without a name, of the default model.
function client:schema(model)
  model = model or self._defaults.model or self:_first_model()
  local schema = model and self._core:schema(model)
  if not schema then
    return self:_settle(failure.say("notFound", ("the model %q is not known"):format(tostring(model))))
  end
  return schema
end

--- The models that are served: a list of { id, name, aliases }.
function client:models()
  return self._core:models()
end

-- ---- jobs ---------------------------------------------------------------------------------------------------

function client:_submit(request, how)
  local batch, message, err = self:_parse(request)
  if not batch then
    return nil, message, err
  elseif batch:size() ~= 1 then
    return failure.say("misuse", "submit takes one request; for many there are each, all and race")
  end
  local new = job.new(self, batch, 1, request, how or {})
  for kind, handler in pairs(how and how.on or {}) do
    new:on(kind, handler)
  end
  local ok
  ok, message, err = new:_start()
  if not ok then
    return nil, message, err
  end
  self._live[new] = true
  self._stats.submitted = self._stats.submitted + 1
  if self._driver.start then
    self._driver:start(self)
  end
  return new
end

-- Hands an attempt of a job to the core.
function client:_launch(which)
  local id = self._last_id + 1
  local submitted, message, err = self._core:submit(which._batch, which._index, id)
  if not submitted then
    return nil, message, err
  end
  self._last_id, self._by_id[id] = id, which
  return submitted
end

function client:_ended(which)
  self._live[which] = nil
  self._stats[which.state] = self._stats[which.state] + 1
  self._stats.images = self._stats.images + #which._order
  self._ends = self._ends + 1
  return self._ends
end

--- Sends a request; the job goes on while the program does.
-- @tparam table request the service's own field names
-- @tparam[opt] table how timeout, retries (when the failure may pass), on = { step = function, … }
-- @return job, or nil, message, error
function client:submit(request, how)
  return self:_settle(self:_submit(request, how))
end

-- "fox-%d.png", "fox-{seed}.png"; several pictures never share a name.
local function file_name(pattern, image, index, count)
  local name = pattern:gsub("{seed}", tostring(image.seed)):gsub("%%(0?%d*)d", function(width)
    return ("%" .. width .. "d"):format(index)
  end)
  if name == pattern and count > 1 then
    name = name:gsub("(%.%w+)$", "-" .. index .. "%1")
  end
  return name
end

-- Encodes or saves on a thread while this coroutine waits and others go on.
function client:_work(image, path, format, quality)
  local work = core.work(image, path, format, quality)
  while not work:is_done() do
    self:_wait(0.002)
  end
  return work:result()
end

--- The bytes of a picture, like image:bytes, without holding up an event loop while it is encoded.
-- @tparam image image
-- @tparam[opt="png"] string format
-- @tparam[opt] table how quality
-- @return a string, or nil, message, error
function client:encode(image, format, how)
  return self:_settle(self:_work(image, nil, format or "png", how and how.quality))
end

--- Saves a picture, like image:save, without holding up an event loop.
function client:save(image, path, how)
  return self:_settle(self:_work(image, path, how and how.format, how and how.quality))
end

function client:_save_all(images, how)
  for index, image in ipairs(images) do
    local ok, message, err = self:_work(image, file_name(how.save, image, index, #images), how.format, how.quality)
    if not ok then
      return nil, message, err
    end
  end
  return images
end

--- Sends a request and waits for its pictures.
-- @tparam table request what
-- @param[opt] how a file name, or save, quality, progress = function(step, steps, index), timeout, retries, on
-- @return list of images, or nil, message, error
function client:generate(request, how)
  how = type(how) == "string" and { save = how } or how or {}
  local new, message, err = self:_submit(request, how)
  if not new then
    return self:_settle(nil, message, err)
  end
  if how.progress then
    new:on("step", how.progress)
  end
  local images
  images, message, err = new:wait()
  if images and how.save then
    images, message, err = self:_save_all(images, how)
  end
  return self:_settle(images, message, err)
end

--- Makes a picture again from its recipe, with changes.
function client:again(image, changes, how)
  local recipe = image.recipe
  if not recipe then
    return self:_settle(failure.say("notFound", "the picture carries no recipe"))
  end
  return self:generate(copy(recipe, changes or {}), how)
end

--- Iterates `request, images, message, error` of many requests, `parallel` at once, as they get "ready" or in the
-- order "asked" for.
-- @param requests a list, a function, or a template
-- @tparam[opt] table how parallel, order, timeout, retries, started = function(job, request)
-- @return an iterator with next and close; leaving a loop early stops what runs (at once where Lua has `<close>`)
function client:each(requests, how)
  local it = each.new(self, requests, how)
  return it, nil, nil, it
end

--- Waits for every request of a list.
-- @return a list of image lists; or nil, message, error with results and errors by position
function client:all(requests, how)
  local results, errors, first, place = {}, {}, nil, {}
  local list = {}
  for i, request in ipairs(requests) do
    list[i] = copy({}, request)
    place[list[i]] = i
  end
  local it = each.new(self, list, how)
  while true do
    local request, images, _, err = it:next()
    if request == nil then
      break
    elseif images then
      results[place[request]] = images
    else
      errors[place[request]], first = err, first or err
    end
  end
  if first then
    return self:_settle(failure.say(first.code, first.message, { results = results, errors = errors }))
  end
  return results
end

--- The first good result of several requests; the others are cancelled.
-- @return images and their position in the list, or nil, message, error when none was good
function client:race(requests, how)
  local place, list = {}, {}
  for i, request in ipairs(requests) do
    list[i] = copy({}, request)
    place[list[i]] = i
  end
  local it = each.new(self, list, copy({ parallel = #list }, how or {}))
  local last = failure.new("misuse", "a race needs a request")
  while true do
    local request, images, _, err = it:next()
    if request == nil then
      return self:_settle(failure.of(last))
    elseif images then
      it:close()
      return images, place[request]
    end
    last = err
  end
end

-- ---- waiting ------------------------------------------------------------------------------------------------

-- A handler's error never stops the news of others: it goes to the log, or is raised when all is told.
function client:_call(handler, ...)
  local ok, message = pcall(handler, ...)
  if ok then
    return
  elseif self._log then
    pcall(self._log, "error", "handler: " .. tostring(message))
  elseif self._raised == nil then
    self._raised = { message }
  end
end

function client:_tell()
  while not self._core:is_closed() do
    local id, position, started, index, step, steps, preview, of, has_image, ended = self._core:news()
    if not id then
      return
    end
    local which = self._by_id[id]
    if ended then
      self._by_id[id] = nil
    end
    if which then
      which:_hear(position, started, index, step, steps, preview, of, has_image, ended)
    end
  end
end

function client:_tick()
  local now, due = core.now(), nil
  for which in pairs(self._live) do
    if which._deadline and now >= which._deadline or which._due and now >= which._due then
      due = due or {}
      due[#due + 1] = which
    end
  end
  for _, which in ipairs(due or {}) do
    which:_tick(now)
  end
end

--- Tells what happened: runs the handlers of events.  Returns the number of jobs that have not ended.
function client:dispatch()
  self._core:dispatch()
  self:_tell()
  if not self._core:is_closed() then
    self:_tick()
    while self._log do
      local level, text = self._core:log_line()
      if not level then
        break
      end
      pcall(self._log, level, text)
    end
  end
  if self._raised then
    local raised = self._raised
    self._raised = nil
    error(raised[1], 0)
  end
  return self:live()
end

-- Lets the driver wait for news.
function client:_wait(seconds)
  if self._core:is_closed() then
    error("misuse: the client is closed", 0)
  end
  self._driver:wait(self, seconds)
end

--- The number of jobs that have not ended.
function client:live()
  local n = 0
  for _ in pairs(self._live) do
    n = n + 1
  end
  return n
end

--- Blocks until there is something to dispatch, at most so many seconds; for drivers.
function client:poll(seconds)
  local due = self:timeout()
  if due then
    seconds = math.min(seconds or due, due)
  end
  return self._core:poll(seconds)
end

--- For event loops: the descriptor that is readable when dispatch has something to do.
function client:pollfd()
  return self._core:fd()
end

--- For event loops: what to watch the descriptor for.
function client.events()
  return "r"
end

--- For event loops: seconds until dispatch must be called in any case, or nil.
function client:timeout()
  local first
  for which in pairs(self._live) do
    local at = which._due or not which._is_late and which._deadline
    first = at and math.min(first or at, at) or first
  end
  return first and math.max(0, first - core.now())
end

--- Plain Lua only: starts a coroutine that may wait for jobs while others go on.
function client:go(f, ...)
  if not self._driver.go then
    error("this driver has a loop of its own: start coroutines there", 2)
  end
  self._driver:go(self, f, ...)
end

--- Plain Lua only: goes on until all jobs and coroutines have ended.
function client:run()
  if not self._driver.run then
    error("this driver has a loop of its own: run that", 2)
  end
  self._driver:run(self)
end

--- Counts: submitted, done, failed, stopped, images, live.
function client:stats()
  return copy({ live = self:live() }, self._stats)
end

--- Stops everything.  Jobs that still ran are "stopped"; pictures stay.  Twice is fine.
function client:close()
  if self._core:is_closed() then
    return
  end
  self._core:close()
  local live = self._live
  self._live, self._by_id = {}, {}
  for which in pairs(live) do
    which.state, which.ended, which._due = "stopped", math.huge, nil
    which.error = failure.new("cancelled", "the client was closed", { job = which.uuid })
    which._is_cancelled = true
  end
  if self._driver.stop then
    self._driver:stop(self)
  end
end

client.__close = client.close

function client:__tostring()
  if self._core:is_closed() then
    return "reverie.client (closed)"
  end
  return ("reverie.client (%s, %d jobs)"):format(self.engine, self:live())
end

return client
