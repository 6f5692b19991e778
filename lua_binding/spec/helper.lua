-- What the specs share.  After each test nothing may be open any more: whoever forgets a client is told.
local core = require "reverie.core"
local reverie = require "reverie"

local helper = { work = os.getenv("TEST_WORK"), root = os.getenv("SOURCE_ROOT"), build = os.getenv("BUILD_ROOT"),
  abi = os.getenv("LUA_ABI"), lua = os.getenv("LUA_PROGRAM") }

--- A small request, quick to make.
function helper.request(prompt, more)
  local request = { positivePrompt = prompt or "a fox", width = 128, height = 128, steps = 3, seed = 7,
    model = "runware:97@3" }
  for key, value in pairs(more or {}) do
    request[key] = value
  end
  return request
end

-- Every context of the core that is made while a test runs.
local open = setmetatable({}, { __mode = "k" })
local make = core.client
function core.client()
  local made, message, err = make()
  if made then
    open[made] = debug.traceback()
  end
  return made, message, err
end

--- Closes what the functions of the module share, and fails when a client is still open.
function helper.finish()
  reverie.close()
  local left
  for client, where in pairs(open) do
    if not client:is_closed() then
      client:close()
      left = where
    end
    open[client] = nil
  end
  if left then
    error("a client is still open; made here:\n" .. left, 0)
  end
end

--- Waits for a condition with a generous limit; for what happens in another thread.
function helper.eventually(condition, client)
  local limit = core.now() + 30
  while not condition() do
    assert(core.now() < limit, "it never happened")
    if client then
      client:poll(0.05)
      client:dispatch()
    else
      core.sleep(0.005)
    end
  end
end

function helper.path(name)
  return helper.work .. "/" .. name
end

function helper.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function helper.write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

--- Runs a shell command; its output and whether it ended well.
function helper.shell(command)
  local file = assert(io.popen(command .. " 2>&1; echo \"|$?\"", "r"))
  local text = file:read("*a")
  file:close()
  local out, status = text:match("^(.*)|(%d+)%s*$")
  return out, status == "0"
end

package.loaded["spec.helper"] = helper
return helper
