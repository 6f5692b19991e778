-- The module inside nginx with its Lua module: the service of README.md as it stands there, ten jobs at once from one
-- worker, and how long other requests of that worker take meanwhile (told, not judged).
local core = require "reverie.core"
local helper = require "spec.helper"

local PREAMBLE = [[
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
user root;
worker_processes 1;
pid %s/nginx.pid;
error_log %s/error.log notice;
env REVERIE_ENGINE; env REVERIE_MODELS; env LD_PRELOAD; env ASAN_OPTIONS;
events { worker_connections 128; }
http {
  access_log off;
  lua_package_path "%s/lua_binding/lua/?.lua;%s/lua_binding/lua/?/init.lua;;";
  lua_package_cpath "%s/lua_binding/abi/jit/?.so;;";
  client_body_temp_path %s; proxy_temp_path %s; fastcgi_temp_path %s; uwsgi_temp_path %s; scgi_temp_path %s;
  init_worker_by_lua_block {
    package.loaded["test.slow"] = assert(require("reverie").client { engine = "stub", stub_ms = 10, queue = 32 })
  }
]]

local TEST = [[
  location = /ten {
    content_by_lua_block {
      local client, threads = package.loaded["test.slow"], {}
      local function one(i)
        local job = assert(client:submit { positivePrompt = "job " .. i, width = 512, height = 512, steps = 12 })
        local it, seen = job:steps(), 0
        while it:next() do
          seen = seen + 1
        end
        local images = assert(job:wait())
        return #assert(client:encode(images[1], "webp")) > 0 and seen
      end
      for i = 1, 10 do
        threads[i] = ngx.thread.spawn(one, i)
      end
      for i = 1, 10 do
        local ok, seen = ngx.thread.wait(threads[i])
        ngx.say(ok and seen or "failed: " .. tostring(seen))
      end
    }
  }
  location = /blocked {
    content_by_lua_block {
      local worked, size = ngx.run_worker_thread("pool", "test_thread", "make")
      ngx.say(worked, " ", size)
    }
  }
]]

local THREAD = [[
local M = {}
function M.make()
  local images = assert(require("reverie").generate { positivePrompt = "in a thread", width = 128, height = 128 })
  return #images[1]:bytes("png")
end
return M
]]

local function service()
  local text = helper.read("README.md"):match("```nginx\n(.-)```")
  return assert(text, "README.md has no nginx example")
end

local function configuration(dir)
  local preamble = PREAMBLE:format(dir, dir, helper.root, helper.root, helper.build, dir, dir, dir, dir, dir)
  preamble = preamble:gsub("lua_package_path \"", "lua_package_path \"" .. dir .. "/?.lua;")
  preamble = preamble:gsub("^(.-)events", "%1thread_pool pool threads=2;\nevents")
  local server = service():gsub("listen 8080;", "listen unix:" .. dir .. "/socket;\n" .. TEST)
  return preamble .. server .. "}\n"
end

local has_nginx = core.readable("/usr/lib/nginx/modules/ngx_http_lua_module.so")
  and select(2, helper.shell("command -v nginx && command -v curl"))

describe("inside nginx", function()
  if not has_nginx or not core.readable(helper.build .. "/lua_binding/abi/jit/reverie/core.so") then
    pending("nginx with its Lua module is not installed")
    return
  end
  local dir = helper.path("nginx")

  local function get(path, options)
    return helper.shell(("curl -s -S --max-time 60 --unix-socket %s/socket %s 'http://localhost%s'"):format(dir,
      options or "", path))
  end

  setup(function()
    assert(select(2, helper.shell("mkdir -p " .. dir)))
    helper.write(dir .. "/nginx.conf", configuration(dir))
    helper.write(dir .. "/test_thread.lua", THREAD)
    local out, ok = helper.shell(("nginx -p %s -c %s/nginx.conf"):format(dir, dir))
    assert(ok, out)
  end)

  teardown(function()
    local pid = helper.read(dir .. "/nginx.pid"):match("%d+")
    helper.shell("kill -TERM " .. pid) -- QUIT would wait for the clients that hang
    local limit = core.now() + 30
    while core.readable(dir .. "/nginx.pid") and core.now() < limit do
      core.sleep(0.02)
    end
    local log = helper.read(dir .. "/error.log")
    for line in log:gmatch("[^\n]+") do
      for _, bad in ipairs { "[alert]", "[emerg]", "exited on signal" } do
        assert(not line:find(bad, 1, true), line)
      end
    end
  end)

  it("draws", function()
    local out, ok = get("/draw?prompt=a%20fox", "-o " .. dir .. "/fox.webp -w '%{http_code} %{content_type}'")
    assert.is_true(ok, out)
    assert.equal("200 image/webp", out)
    local image = assert(require("reverie").open(dir .. "/fox.webp"))
    assert.equal("a fox", image.recipe.positivePrompt)
  end)

  it("tells what is wrong", function()
    local out = get("/draw?prompt=", "-w '%{http_code}'")
    assert.truthy(out:find("positivePrompt", 1, true))
    assert.truthy(out:find("400", 1, true))
  end)

  it("streams progress", function()
    local out = get("/watch?prompt=a%20fox")
    assert.truthy(out:find("event: step\ndata: ", 1, true))
    assert.truthy(out:find("event: end\ndata: done", 1, true))
  end)

  it("runs ten jobs at once with progress for each, while others are served", function()
    local answers = dir .. "/answers"
    helper.shell(("curl -s --max-time 60 --unix-socket %s/socket -o %s http://localhost/ten & echo $! > %s.pid")
      :format(dir, answers, answers))
    local times = {}
    local out = get("/ping?[1-80]", "-o /dev/null --rate 160/s -w '%{time_total}\\n'")
    for time in out:gmatch("[%d.]+") do
      times[#times + 1] = tonumber(time) * 1000
    end
    table.sort(times)
    print(("# nginx: %d other requests while ten jobs ran: median %.2f ms, longest %.2f ms"):format(#times,
      times[math.ceil(#times / 2)], times[#times]))
    helper.eventually(function() return not select(2, helper.shell("kill -0 $(cat " .. answers .. ".pid)")) end)
    local lines = 0
    for line in helper.read(answers):gmatch("[^\n]+") do
      assert.truthy(tonumber(line) and tonumber(line) >= 2, line)
      lines = lines + 1
    end
    assert.equal(10, lines)
  end)

  it("works in the threads of a pool", function()
    local out = get("/blocked")
    assert.truthy(out:find("^true %d+"), out)
  end)

  it("goes on when a client goes away", function()
    for i = 1, 3 do
      helper.shell(("curl -s --max-time 0.05 --unix-socket %s/socket 'http://localhost/watch?prompt=stub:hang%%20%d'")
        :format(dir, i))
    end
    assert.equal("pong\n", (get("/ping")))
    assert.truthy(get("/watch?prompt=after"):find("data: done", 1, true))
  end)
end)
