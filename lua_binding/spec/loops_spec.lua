local core = require "reverie.core"
local helper = require "spec.helper"
local reverie = require "reverie"

local function progress_of_ten(client, wait)
  local progress, done = {}, 0
  for i = 1, 10 do
    local job = assert(client:submit(helper.request("job " .. i, { steps = 6 })))
    job:on("step", function(step, steps) progress[i] = step .. "/" .. steps end)
    job:on("end", function(state) done = done + (state == "done" and 1 or 0) end)
  end
  wait()
  assert.equal(10, done)
  for i = 1, 10 do
    assert.equal("6/6", progress[i])
  end
end

describe("luv", function()
  local uv = require "luv"
  local client
  before_each(function() client = assert(reverie.client { engine = "stub", stub_ms = 2, driver = "luv" }) end)
  after_each(function()
    client:close()
    uv.run()
    helper.finish()
  end)

  it("runs ten jobs with progress for each, and the loop ends", function()
    progress_of_ten(client, function() uv.run() end)
    assert.equal(0, client:live())
  end)

  it("waits in coroutines while timers go on", function()
    local ticks, done = 0, 0
    local timer = uv.new_timer()
    timer:start(1, 1, function() ticks = ticks + 1 end)
    for i = 1, 10 do
      coroutine.wrap(function()
        local images = assert(client:generate(helper.request("co " .. i)))
        assert.equal(1, #images)
        local job = assert(client:submit(helper.request("steps " .. i)))
        local it, steps = job:steps(), 0
        while it:next() do
          steps = steps + 1
        end
        assert.truthy(steps > 0)
        done = done + 1
        if done == 10 then
          timer:close()
        end
      end)()
    end
    uv.run()
    assert.equal(10, done)
    assert.truthy(ticks > 0)
  end)

  it("waits on the main thread too", function()
    assert.equal(1, #assert(client:generate(helper.request())))
    local job = assert(client:submit(helper.request("stub:hang")))
    local _, _, err = job:wait(0.02)
    assert.equal("timeout", err.code)
    job:cancel()
    job:wait()
  end)

  it("keeps limits of time and attempts", function()
    local codes = {}
    coroutine.wrap(function()
      local _, _, err = client:generate(helper.request("stub:hang"), { timeout = 0.03 })
      codes[1] = err.code
      _, _, err = client:generate(helper.request("stub:fail=rateLimit"), { retries = 1 })
      codes[2] = err.code .. err.attempts
      local job = assert(client:submit(helper.request("stub:hang")))
      _, _, err = job:wait(0.01)
      codes[3] = err.code
      job:cancel()
    end)()
    uv.run()
    assert.same({ "timeout", "rateLimit2", "timeout" }, codes)
  end)

  it("gives a coroutine's error to the loop", function()
    local seen
    coroutine.wrap(function()
      seen = { pcall(function()
        assert(client:generate(helper.request("stub:fail=safety")))
      end) }
    end)()
    uv.run()
    assert.is_false(seen[1]) -- in 5.1 because nothing may wait inside pcall there
  end)

  it("wakes those who wait when the client closes", function()
    local result
    coroutine.wrap(function()
      local job = assert(client:submit(helper.request("stub:hang")))
      result = { job:wait() }
    end)()
    local timer = uv.new_timer()
    timer:start(10, 0, function()
      timer:close()
      client:close()
    end)
    uv.run()
    assert.equal("cancelled", result[3].code)
  end)
end)

describe("cqueues", function()
  local cqueues = require "cqueues"
  local client
  before_each(function() client = assert(reverie.client { engine = "stub", stub_ms = 2, driver = "cqueues" }) end)
  after_each(function()
    client:close()
    helper.finish()
  end)

  it("polls the client itself", function()
    local queue = cqueues.new()
    queue:wrap(function()
      progress_of_ten(client, function()
        while client:live() > 0 do
          cqueues.poll(client)
          client:dispatch()
        end
      end)
    end)
    assert(queue:loop())
  end)

  it("waits in its coroutines, and outside of them", function()
    local queue, done, ticks = cqueues.new(), 0, 0
    for i = 1, 10 do
      queue:wrap(function()
        assert(client:generate(helper.request("co " .. i)))
        done = done + 1
      end)
    end
    queue:wrap(function()
      local _, _, err = client:generate(helper.request("stub:hang"), { timeout = 0.05 })
      assert(err.code == "timeout")
      done = done + 1
    end)
    queue:wrap(function()
      while done < 11 do
        cqueues.sleep(0.001)
        ticks = ticks + 1
      end
    end)
    assert(queue:loop())
    assert.equal(11, done)
    assert.truthy(ticks > 0)
    assert(client:generate(helper.request()))
  end)
end)

describe("a driver of one's own", function()
  after_each(helper.finish)

  it("is one function", function()
    local turns = 0
    local function wait(client)
      turns = turns + 1
      coroutine.yield()
      client:dispatch()
    end
    for _, driver in ipairs { wait, { wait = wait } } do
      local client = assert(reverie.client { engine = "stub", stub_ms = 1, driver = driver })
      local threads, done = {}, 0
      for i = 1, 10 do
        threads[i] = coroutine.create(function()
          assert(client:generate(helper.request("own " .. i)))
          done = done + 1
        end)
      end
      while done < 10 do
        for _, co in ipairs(threads) do
          if coroutine.status(co) == "suspended" then
            assert(coroutine.resume(co))
          end
        end
        core.sleep(0.001)
      end
      assert.has_error(function() client:run() end)
      assert.has_error(function() client:go(print) end)
      client:close()
    end
    assert.truthy(turns > 0)
  end)

  it("may come as a module", function()
    local client = assert(reverie.client { engine = "stub", driver = require "reverie.driver.block" })
    assert(client:generate(helper.request()))
    client:close()
    assert.has_error(function() reverie.client { driver = "nothing_like_that" } end)
  end)
end)
