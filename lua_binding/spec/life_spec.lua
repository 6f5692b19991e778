-- Closing, collecting, forking and failing in every order: nothing may leak or crash.  The same file runs under
-- AddressSanitizer and valgrind.
local core = require "reverie.core"
local helper = require "spec.helper"
local reverie = require "reverie"

local function stub(more)
  local options = { engine = "stub" }
  for key, value in pairs(more or {}) do
    options[key] = value
  end
  return assert(reverie.client(options))
end

describe("lives", function()
  after_each(helper.finish)

  it("may end twice and in any order", function()
    for _, order in ipairs { "cji", "cij", "jci", "jic", "icj", "ijc" } do
      local client = stub()
      local job = assert(client:submit(helper.request()))
      local image = assert(job:wait())[1]
      for what in order:gmatch(".") do
        if what == "c" then
          client:close()
          client:close()
        elseif what == "i" then
          image:close()
          image:close()
        else
          job:cancel()
          job = nil -- luacheck: ignore
          collectgarbage()
        end
      end
    end
  end)

  it("may end at every state of a job", function()
    for wait = 0, 6 do
      local client = stub { stub_ms = 2 }
      local jobs = {}
      for i = 1, 8 do
        jobs[i] = assert(client:submit(helper.request("job " .. i, { steps = 3, numberResults = 2 })))
      end
      for _ = 1, wait do
        client:poll(0.01)
        client:dispatch()
      end
      client:close()
      for _, job in ipairs(jobs) do
        assert.truthy(job.ended)
        assert.truthy(job.state == "done" or job.state == "stopped")
        job:wait()
        job:cancel()
        for image in job:images() do
          assert.equal(128, image.width)
        end
        assert.is_nil(job:steps():next() and nil)
      end
    end
  end)

  it("may be cancelled at every state", function()
    local client = stub { stub_ms = 1 }
    for wait = 0, 8 do
      local job = assert(client:submit(helper.request("cancelled", { steps = 4, numberResults = 2 })))
      for _ = 1, wait do
        client:poll(0.005)
        client:dispatch()
      end
      job:cancel()
      job:wait()
      assert.truthy(job.state == "stopped" or job.state == "done")
    end
    client:close()
  end)

  it("hold on to what is needed and no more", function()
    local weak = setmetatable({}, { __mode = "v" })
    do
      local client = stub()
      weak.client = client
      weak.job = assert(client:submit(helper.request("stub:hang")))
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak.client)
    assert.is_nil(weak.job)
    local job
    do
      job = assert(stub():submit(helper.request())) -- the job holds its client
    end
    collectgarbage()
    local image = assert(job:wait())[1]
    job.client:close()
    job = nil -- luacheck: ignore
    collectgarbage()
    assert.equal(128, image.width)
  end)

  it("keep a forgotten job's handlers until it ends", function()
    local client, ended = stub(), 0
    for i = 1, 5 do
      assert(client:submit(helper.request("forgotten " .. i))):on("end", function() ended = ended + 1 end)
      collectgarbage()
    end
    client:run()
    assert.equal(5, ended)
    client:close()
  end)

  it("survive collection in random order", function()
    math.randomseed(42)
    for _ = 1, 15 do
      local things = {}
      for i = 1, 3 do
        local client = stub { stub_ms = math.random(0, 1) }
        things[#things + 1] = client
        for k = 1, 3 do
          local job = assert(client:submit(helper.request(("r %d %d"):format(i, k), { steps = 2 })))
          things[#things + 1] = job
          things[#things + 1] = job:images()
          things[#things + 1] = client:each({ helper.request("e") })
        end
        client:poll(0.001)
        client:dispatch()
        for _, job in ipairs(things) do
          if type(job) == "table" and job._results and job._results[1] then
            things[#things + 1] = job._results[1]
          end
        end
      end
      while #things > 0 do
        table.remove(things, math.random(#things))
        if math.random(4) == 1 then
          collectgarbage()
        end
      end
      collectgarbage()
      collectgarbage()
    end
  end)

  it("belong to the process that made them", function()
    -- A fork of its own: what the child may do is to be told so, and to end.
    local script = helper.path("fork.lua")
    helper.write(script, [[
      local reverie, ok, posix = require "reverie", pcall(require, "ffi")
      if not ok then os.exit(0) end
      posix.cdef "int fork(void); int waitpid(int, int *, int); void _exit(int);"
      local client = assert(reverie.client { engine = "stub" })
      assert(client:generate { positivePrompt = "xx", width = 128, height = 128, steps = 1 })
      local pid = posix.C.fork()
      if pid == 0 then
        local ok, message = pcall(client.submit, client, { positivePrompt = "xx" })
        client = nil
        collectgarbage()
        posix.C._exit(not ok and tostring(message):find("fork") and 0 or 1)
      end
      local status = posix.new("int[1]")
      posix.C.waitpid(pid, status, 0)
      assert(status[0] == 0)
      assert(client:generate { positivePrompt = "still here", width = 128, height = 128, steps = 1 })
      client:close()
    ]])
    local out, ok = helper.shell(("%s %s"):format(helper.lua, script))
    assert.is_true(ok, out)
  end)

  it("end with the state, whatever still runs", function()
    for _, ending in ipairs { "", "os.exit(0, true)", "error('the end')",
      "coroutine.wrap(function() error('co') end)()" } do
      local script = helper.path("end.lua")
      helper.write(script, [[
        local reverie = require "reverie"
        local client = reverie.client { engine = "stub", stub_ms = 5 }
        keep = { client, reverie.client { engine = "stub" } }
        for i = 1, 6 do
          keep[#keep + 1] = client:submit { positivePrompt = "stub:hang", width = 128, height = 128 }
        end
        reverie.submit { positivePrompt = "shared", width = 128, height = 128 }
        client:poll(0.01)
        client:dispatch()
        ]] .. ending)
      local out = helper.shell(("%s %s"):format(helper.lua, script))
      assert.is_nil(out:find("Segmentation", 1, true), out)
      assert.is_nil(out:find("Abort", 1, true), out)
      assert.is_nil(out:find("ERROR: ", 1, true), out)
    end
  end)

  it("refuse to be used after their end, by name", function()
    local client = stub()
    client:close()
    for _, call in ipairs {
      function() client:submit(helper.request()) end, function() client:generate(helper.request()) end,
      function() client:dispatch() end, function() client:check(helper.request()) end, function() client:pollfd() end,
      function() client:models() end,
    } do
      local ok, message = pcall(call)
      assert.is_false(ok)
      assert.truthy(tostring(message):find("closed", 1, true))
    end
    assert.equal("reverie.client (closed)", tostring(client))
  end)

  it("do not take foreign objects for their own", function()
    local image = reverie.image("abc", 1, 1)
    assert.has_error(function() image.bytes(io.stdout) end)
    assert.has_error(function() image.bytes({}) end)
    assert.has_error(function() image.bytes() end)
    local meta = getmetatable(image)
    assert.equal("protected", meta)
    assert.has_error(function() setmetatable(image, {}) end)
    local handle = core.client()
    assert.has_error(function() handle.submit(image, 1, 1, 1) end)
    assert.has_error(function() handle:submit(handle, 1, 1) end)
    handle:close()
  end)

  it("log what the core has to say", function()
    local lines = {}
    local client = stub { log = function(level, text) lines[#lines + 1] = level .. ": " .. text end }
    assert(client:generate(helper.request()))
    client:close()
    for _, line in ipairs(lines) do
      assert.truthy(line:find("^%l+: "))
    end
  end)

  it("leave globals alone", function()
    local out, ok = helper.shell(([[%s -e '
      local before = {} for k in pairs(_G) do before[k] = true end
      local r = require "reverie" r.generate { positivePrompt = "xx", width = 128, height = 128, steps = 1 }
      for k in pairs(_G) do assert(before[k], k) end']]):format(helper.lua))
    assert.is_true(ok, out)
  end)
end)
