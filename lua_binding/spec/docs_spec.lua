-- What is generated is what is committed; the reference builds without a warning; the rock builds and runs.
local core = require "reverie.core"
local helper = require "spec.helper"

local function has(program)
  return select(2, helper.shell("command -v " .. program))
end

describe("generated files", function()
  it("are those of the parameter table", function()
    local out, ok = helper.shell(("mkdir -p %s/types %s/docs && %s tools/generate.lua %s"):format(helper.work,
      helper.work, helper.lua, helper.work))
    assert.is_true(ok, out)
    for _, name in ipairs { "types/reverie.lua", "docs/request.md" } do
      assert.is_true(helper.read(helper.path(name)) == helper.read(name),
        name .. " is old: run tools/generate.lua . in lua_binding")
    end
  end)

  it("load as Lua and name every function", function()
    local types = assert(loadfile("types/reverie.lua"))()
    for name, value in pairs(require "reverie") do
      if type(value) == "function" then
        local shared = require("reverie.client")[name]
        assert.truthy(types[name] or shared, name)
      end
    end
    local text = helper.read("types/reverie.lua")
    for name, value in pairs(require "reverie.client") do
      if type(value) == "function" and not name:find("^_") and name ~= "new" then
        assert.truthy(text:find("function client:" .. name, 1, true), name)
      end
    end
    for name, value in pairs(require "reverie.job") do
      if type(value) == "function" and not name:find("^_") and name ~= "new" then
        assert.truthy(text:find("function job:" .. name, 1, true), name)
      end
    end
  end)
end)

describe("the reference", function()
  if not has "ldoc" then
    pending("ldoc is not installed")
    return
  end
  it("builds without a warning", function()
    local out, ok = helper.shell(("ldoc --fatalwarnings --testing -c config.ld -d %s ."):format(helper.path("ldoc")))
    assert.is_true(ok, out)
    assert.truthy(helper.read(helper.path("ldoc/index.html")):find("reverie", 1, true))
  end)
end)

describe("luacheck", function()
  if not has "luacheck" then
    pending("luacheck is not installed")
    return
  end
  it("has nothing to say", function()
    local out, ok = helper.shell("luacheck -q --no-color . ../tests/hosts/lua")
    assert.is_true(ok, out)
  end)
end)

describe("the rock", function()
  if not has "luarocks" or os.getenv("REVERIE_SANITIZED") then
    pending("is built where luarocks is installed, and not under sanitizers")
    return
  end
  -- LuaJIT is a Lua 5.1 with headers of its own.
  local jit = helper.abi == "jit"
  local abi = jit and "5.1" or helper.abi
  local folder = jit and helper.shell("pkg-config --variable=includedir luajit"):gsub("%s+$", "")
  local headers = jit and "LUA_INCDIR=" .. folder or ""
  it("builds with the installed library and runs", function()
    local tree = helper.path("rock")
    -- A copy: luarocks leaves object files beside the sources.
    helper.shell(("mkdir -p %s && cp -r src lua reverie-scm-1.rockspec %s"):format(tree, tree))
    local out, ok = helper.shell(([[
      cd %s && HOME=%s luarocks --lua-version=%s --tree=%s/tree make reverie-scm-1.rockspec \
        REVERIE_INCDIR=%s/common/include REVERIE_LIBDIR=%s/common %s]]):format(tree, tree, abi, tree, helper.root,
      helper.build, headers))
    assert.is_true(ok, out)
    local share = ("%s/tree/share/lua/%s"):format(tree, abi)
    helper.write(tree .. "/test.lua", 'print(#assert(require("reverie").generate { positivePrompt = "xx" }))')
    out, ok = helper.shell(([[cd / && LD_LIBRARY_PATH=%s/common LUA_PATH='%s/?.lua;%s/?/init.lua' \
      LUA_CPATH='%s/tree/lib/lua/%s/?.so' %s %s/test.lua]]):format(helper.build, share, share, tree, abi,
      helper.lua, tree))
    assert.is_true(ok, out)
    assert.equal("1\n", out)
    assert.truthy(core.version)
  end)
end)
