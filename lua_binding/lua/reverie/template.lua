--- Requests in bulk: prompts with places to fill in, and sweeps over parameters.  Both give the same requests in the
-- same order every time, one by one.  Calling one is the same as next.
-- @classmod reverie.template
local template = { __name = "reverie.template" }
template.__index = template

-- The names in the order of their first use; "{{" stands for a brace.
local function names_of(text)
  local names, seen = {}, {}
  for name in text:gsub("{{", ""):gmatch("{([%w_]+)}") do
    if not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  return names
end

local function fill(text, values)
  text = text:gsub("{{", "\1"):gsub("{([%w_]+)}", function(name) return tostring(values[name]) end)
  return (text:gsub("\1", "{"))
end

-- The combination number n (from 0): the last axis turns fastest.
local function combination(axes, n)
  local values = {}
  for i = #axes, 1, -1 do
    local list = axes[i].values
    values[axes[i].name] = list[n % #list + 1]
    n = math.floor(n / #list)
  end
  return values
end

local function size_of(axes)
  local n = 1
  for _, axis in ipairs(axes) do
    n = n * #axis.values
  end
  return n
end

--- Fixed parameters for every request, which win over earlier ones.
function template:with(parameters)
  local base = {}
  for _, from in ipairs { self._base, parameters } do
    for key, value in pairs(from) do
      base[key] = value
    end
  end
  return setmetatable({ _text = self._text, _axes = self._axes, _base = base, _at = 0 }, template)
end

--- How many requests there are.
function template:count()
  return size_of(self._axes)
end

--- The request number i, counted from 1, and the values that make it.
function template:request(i)
  if i < 1 or i > self:count() then
    return nil
  end
  local values = combination(self._axes, i - 1)
  local request = {}
  for key, value in pairs(self._base) do
    request[key] = value
  end
  if self._text then
    request.positivePrompt = fill(self._text, values)
  else
    for key, value in pairs(values) do
      request[key] = value
    end
  end
  return request, values
end

--- The next request and its values; nil at the end.  Calling the template does the same.
function template:next()
  self._at = self._at + 1
  return self:request(self._at)
end

template.__call = template.next

local function axis(name, values)
  assert(type(values) == "table" and #values > 0, name .. ": a list of values is needed")
  return { name = name, values = values }
end

local module = {}

--- `template("a {animal}", { animal = { "fox", "heron" } })`: every combination, in the order of the text.
function module.prompt(text, words)
  local axes = {}
  for _, name in ipairs(names_of(text)) do
    axes[#axes + 1] = axis(name, words and words[name])
  end
  return setmetatable({ _text = text, _axes = axes, _base = {}, _at = 0 }, template)
end

--- `sweep(request, { steps = { 4, 8 }, CFGScale = { 1, 3 } })`: every combination of parameters, axes by name; or
-- `{ { "steps", { 4, 8 } }, … }` in an order of your own.
function module.sweep(request, parameters)
  local axes = {}
  if parameters[1] then
    for _, pair in ipairs(parameters) do
      axes[#axes + 1] = axis(pair[1], pair[2])
    end
  else
    for name, values in pairs(parameters) do
      axes[#axes + 1] = axis(name, values)
    end
    table.sort(axes, function(a, b) return a.name < b.name end)
  end
  return setmetatable({ _axes = axes, _base = request, _at = 0 }, template)
end

return module
