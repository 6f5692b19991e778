-- lua tools/generate.lua FOLDER: writes types/reverie.lua and docs/request.md below FOLDER from the parameter table,
-- as the module itself knows it.  Run it in lua_binding/ with the module on LUA_PATH and LUA_CPATH and REVERIE_MODELS
-- set; a spec compares the committed files.
local reverie = require "reverie"

local LONG = 12 -- more words than this are not spelled out in a type

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function sorted(t)
  local keys = {}
  for key in pairs(t) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

local function number(value)
  if type(value) == "number" and value == math.floor(value) then
    return ("%.0f"):format(value)
  end
  return tostring(value)
end

-- The parameters of every model that is served, and which models disagree about a default.
local function collect()
  local fields, defaults, required = {}, {}, {}
  local models = reverie.models()
  table.sort(models, function(a, b) return a.id < b.id end)
  for _, model in ipairs(models) do
    local schema = assert(reverie.schema(model.id))
    for name, field in pairs(schema.properties) do
      fields[name] = fields[name] or field
      fields[name].enum = name ~= "model" and fields[name].enum or nil -- those that happen to be served
      defaults[name] = defaults[name] or {}
      defaults[name][field.default == nil and "" or number(field.default)] = true
    end
    for _, name in ipairs(schema.required) do
      required[name] = true
    end
  end
  return fields, defaults, required
end

local function span(from, to, unit)
  if from and to then
    return number(from) .. " to " .. number(to) .. unit
  end
  return from and "from " .. number(from) .. unit or "at most " .. number(to) .. unit
end

local function range(field)
  local parts = {}
  if field.minimum or field.maximum then
    parts[1] = span(field.minimum, field.maximum, "")
  elseif field.minLength or field.maxLength then
    parts[1] = span(field.minLength, field.maxLength, " characters")
  elseif field.minItems or field.maxItems then
    parts[1] = span(field.minItems, field.maxItems, " items")
  end
  if field.multipleOf then
    parts[#parts + 1] = "in steps of " .. number(field.multipleOf)
  end
  return table.concat(parts, ", ")
end

local function default_of(defaults)
  local keys = sorted(defaults or {})
  if #keys == 1 then
    return keys[1]
  end
  return "by model"
end

-- ---- types --------------------------------------------------------------------------------------------------

local plain = { string = "string", integer = "integer", number = "number", boolean = "boolean" }

local function class_name(path)
  return "reverie." .. path:gsub("^%l", string.upper)
end

local function type_of(field, path)
  if field.enum and #field.enum <= LONG then
    local words = {}
    for i, word in ipairs(field.enum) do
      words[i] = ('"%s"'):format(word)
    end
    return table.concat(words, "|")
  elseif field.type == "array" then
    return type_of(field.items, path) .. "[]"
  elseif field.type == "object" then
    return class_name(path)
  elseif field.type == "integer" and type(field.maximum) == "string" then
    return "integer|string" -- beyond what numbers hold exactly
  end
  return plain[field.type] or "any"
end

local function class(out, path, fields, defaults, required)
  local later = {}
  out[#out + 1] = "---@class " .. class_name(path)
  for _, name in ipairs(sorted(fields)) do
    local field = fields[name]
    local inner = field.type == "array" and field.items or field
    local notes = { range(field) }
    local default = defaults and default_of(defaults[name]) or field.default ~= nil and number(field.default) or ""
    if default ~= "" then
      notes[#notes + 1] = "default " .. default
    end
    if notes[1] == "" then
      table.remove(notes, 1)
    end
    local note = #notes > 0 and " (" .. table.concat(notes, "; ") .. ")" or ""
    out[#out + 1] = ("---@field %s%s %s %s%s"):format(name, required[name] and "" or "?",
      type_of(field, path .. "." .. name), field.description or "", note)
    if inner.properties then
      later[#later + 1] = name
    end
  end
  out[#out + 1] = ""
  for _, name in ipairs(later) do
    local inner = fields[name].type == "array" and fields[name].items or fields[name]
    local needed = {}
    for _, one in ipairs(inner.required or {}) do
      needed[one] = true
    end
    class(out, path .. "." .. name, inner.properties, nil, needed)
  end
end

-- ---- reference ----------------------------------------------------------------------------------------------

local function rows(out, prefix, fields, defaults)
  for _, name in ipairs(sorted(fields)) do
    local field = fields[name]
    local default = defaults and default_of(defaults[name]) or field.default ~= nil and number(field.default) or ""
    local words = field.enum and #field.enum <= LONG and table.concat(field.enum, ", ") or range(field)
    out[#out + 1] = ("| `%s%s` | %s | %s | %s | %s |"):format(prefix, name, field.type, words, default,
      field.description or "")
    local inner = field.type == "array" and field.items or field
    if inner.properties then
      rows(out, prefix .. name .. (field.type == "array" and "[]." or "."), inner.properties)
    end
  end
end

local folder = assert(arg[1], "usage: generate.lua FOLDER")
local fields, defaults, required = collect()
for _, name in ipairs { "taskType", "taskUUID", "model" } do
  required[name] = nil -- the module fills them in
end

local out = {
  "---@meta reverie",
  "-- Types for the Lua language server.  Generated by tools/generate.lua: parameters from the parameter table,",
  "-- functions from tools/functions.lua.",
  "",
  "--- What is asked for, with the field names of the service.",
}
class(out, "request", fields, defaults, required)
write(folder .. "/types/reverie.lua", table.concat(out, "\n") .. "\n" .. read("tools/functions.lua"))

out = {
  "# Parameters of a request",
  "",
  "Generated by `tools/generate.lua` from the parameter table. `taskType`, `taskUUID` and `model` may be left out.",
  "",
  "| parameter | type | range or words | default | meaning |",
  "|---|---|---|---|---|",
}
rows(out, "", fields, defaults)
write(folder .. "/docs/request.md", table.concat(out, "\n") .. "\n")
reverie.close()
