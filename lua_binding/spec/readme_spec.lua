-- Every example of README.md runs, and prints what it says it prints.
local helper = require "spec.helper"

-- Blocks between ``` lines: { kind, line, text }.
local function blocks(path)
  local list, block, number = {}, nil, 0
  for line in (helper.read(path)):gmatch("([^\n]*)\n") do
    number = number + 1
    local kind = line:match("^```(.*)$")
    if kind and not block then
      block = { kind = kind, line = number, lines = {} }
    elseif kind then
      block.text = table.concat(block.lines, "\n") .. "\n"
      list[#list + 1] = block
      block = nil
    elseif block then
      block.lines[#block.lines + 1] = line
    end
  end
  return list
end

local function expected_lines(text)
  local lines = {}
  for line in text:gmatch("[^\n]+") do
    lines[#lines + 1] = line:match("%-%-> (.*)$")
  end
  return lines
end

-- The expected lines must come in this order; others may stand between them.
local function find_missing(expected, out)
  local i = 1
  for line in out:gmatch("[^\n]+") do
    if expected[i] == line then
      i = i + 1
    end
  end
  return expected[i]
end

describe("README.md", function()
  local n = 0
  for _, block in ipairs(blocks("README.md")) do
    if block.kind == "lua" or block.kind == "lua " .. helper.abi then
      n = n + 1
      it("example at line " .. block.line, function()
        local script = helper.path(("readme-%d.lua"):format(block.line))
        helper.write(script, block.text)
        local out, ok = helper.shell(("(cd %s && %s %s 2>%s.err)"):format(helper.work, helper.lua, script, script))
        assert.is_true(ok, out .. helper.read(script .. ".err"))
        assert.is_nil(find_missing(expected_lines(block.text), out), out)
      end)
    end
  end

  it("has examples", function()
    assert.truthy(n >= 14)
  end)
end)
