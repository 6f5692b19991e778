--- Pictures from words.
--
--     local reverie = require "reverie"
--     assert(reverie.generate({ positivePrompt = "a red fox in fresh snow" }, "fox.png"))
--
-- Whatever can happen to a correct program is returned as nil, a message and an error object; wrong use raises.
-- @module reverie
local core = require "reverie.core"
local client = require "reverie.client"
local failure = require "reverie.failure"
local template = require "reverie.template"

local reverie = { version = core.version, null = core.null }

--- Opens a client.
-- @tparam[opt] table options engine ("auto", "local", "stub", "daemon", "unix:PATH", an address), defaults (parameters
--   of every request), timeout, retries, parallel, driver ("block", "luv", "cqueues", "ngx", or your own), log
--   (function of level and text), throw; all others are settings of the library: models, model, threads, queue, …
-- @return client, or nil, message, error
function reverie.client(options)
  return client.new(options)
end

-- The only state of the module: a client for those who want none, made when first needed.
local shared

local function default()
  if not shared or shared._core:is_closed() then
    local made, message, err = client.new()
    if not made then
      return nil, message, err
    end
    shared = made
  end
  return shared
end

for _, name in ipairs { "generate", "submit", "again", "each", "all", "race", "check", "plan", "schema", "models",
  "encode", "save" } do
  reverie[name] = function(...)
    local one, message, err = default()
    if not one then
      return nil, message, err
    end
    return one[name](one, ...)
  end
end

--- Closes the client that the functions of the module share; the next call opens another.
function reverie.close()
  if shared then
    shared:close()
    shared = nil
  end
end

--- Reads a PNG, JPEG or WebP file, recipe included.
-- @return image, or nil, message, error
function reverie.open(path)
  local file, message = io.open(path, "rb")
  if not file then
    return failure.say("io", message)
  end
  local bytes = file:read("*a")
  file:close()
  if not bytes then
    return failure.say("io", path .. ": cannot be read")
  end
  return reverie.read(bytes)
end

--- The same from the bytes of a file.
function reverie.read(bytes)
  return core.image_from_bytes(bytes)
end

--- An image from pixels: rows from top to bottom without gaps.
-- @tparam string pixels
-- @tparam number width
-- @tparam number height
-- @tparam[opt="rgb"] string layout "gray", "rgb" or "rgba"
function reverie.image(pixels, width, height, layout)
  return core.image(pixels, width, height, layout)
end

--- Prompts with places to fill in: all combinations, as requests.
reverie.template = template.prompt

--- All combinations of parameters, as requests.
reverie.sweep = template.sweep

--- Many images on one.
reverie.sheet = require "reverie.sheet"

--- JSON as the library reads and writes it: exact integers, `reverie.null` for null.
reverie.json = { encode = core.encode, decode = core.decode }

--- A file name from any text.
function reverie.slug(text, length)
  local slug = text:lower():gsub("[^%w]+", "-"):gsub("^%-+", ""):sub(1, length or 60):gsub("%-+$", "")
  return slug ~= "" and slug or "picture"
end

-- ---- repairs ------------------------------------------------------------------------------------------------

local function deep_copy(value)
  if type(value) ~= "table" then
    return value
  end
  local result = {}
  for key, one in pairs(value) do
    result[key] = deep_copy(one)
  end
  return result
end

-- The table and key a JSON pointer of an issue leads to.
local function locate(request, pointer)
  local at, key = request, nil
  for part in pointer:gmatch("/([^/]*)") do
    if key ~= nil then
      at = at[key]
    end
    if type(at) ~= "table" then
      return nil
    end
    part = part:gsub("~1", "/"):gsub("~0", "~")
    key = at[1] ~= nil and tonumber(part) and tonumber(part) + 1 or part
  end
  return at, key
end

--- Applies what the issues of a request suggest.
-- @return a corrected copy and a list of { path, from, to }; what nobody can guess stays wrong
function reverie.fix(request)
  local fixed, changes = deep_copy(request), {}
  for _ = 1, 5 do -- a renamed parameter may have a wrong value
    local ok, _, err = reverie.check(fixed)
    local found = false
    for _, issue in ipairs(not ok and err.issues or {}) do
      local at, key = nil, nil
      if issue.nearest ~= nil and #issue.paths == 1 then
        at, key = locate(fixed, issue.paths[1])
      end
      if at and key ~= nil and issue.rule == "unknown" and at[issue.nearest] == nil then
        at[issue.nearest], at[key] = at[key], nil
        found = true
      elseif at and key ~= nil and issue.rule ~= "unknown" then
        changes[#changes + 1] = { path = issue.paths[1], from = at[key], to = issue.nearest }
        at[key] = issue.nearest
        found = true
      end
      if found and issue.rule == "unknown" then
        changes[#changes + 1] = { path = issue.paths[1], from = key, to = issue.nearest }
      end
    end
    if not found then
      break
    end
  end
  return fixed, changes
end

--- What a parameter means: type, range, default and help as one text.
function reverie.help(name, model)
  local schema, message, err = reverie.schema(model)
  if not schema then
    return nil, message, err
  end
  local field = schema
  for part in name:gmatch("[^.]+") do
    field = field.items or field
    field = field.properties and field.properties[part]
    if not field then
      return failure.say("notFound", ("there is no parameter %s"):format(name))
    end
  end
  local facts = { field.type }
  if field.minimum or field.maximum then
    facts[#facts + 1] = ("%s to %s"):format(field.minimum or "any", field.maximum or "any")
  end
  if field.multipleOf then
    facts[#facts + 1] = "in steps of " .. field.multipleOf
  end
  if field.default ~= nil then
    facts[#facts + 1] = "default " .. tostring(field.default)
  end
  if field.enum and #field.enum <= 12 then
    facts[#facts + 1] = "one of " .. table.concat(field.enum, ", ")
  end
  return ("%s (%s): %s"):format(name, table.concat(facts, ", "), field.description or "")
end

-- ---- for people who prefer exceptions -----------------------------------------------------------------------

local function raise(value, message, err, ...)
  if value == nil and type(err) == "table" then
    error(err, 2)
  end
  return value, message, err, ...
end

--- The same module, but failures are raised as error objects, by its clients and jobs too.
reverie.throw = setmetatable({
  client = function(options)
    local throwing = { throw = true }
    for key, value in pairs(options or {}) do
      throwing[key] = value
    end
    return raise(client.new(throwing))
  end,
}, {
  __index = function(_, name)
    local value = reverie[name]
    if type(value) ~= "function" then
      return value
    end
    return function(...) return raise(value(...)) end
  end,
})

return reverie
