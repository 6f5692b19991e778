local core = require "reverie.core"
local helper = require "spec.helper"
local reverie = require "reverie"

describe("a job", function()
  local client
  before_each(function() client = assert(reverie.client { engine = "stub", stub_ms = 1 }) end)
  after_each(function()
    client:close()
    helper.finish()
  end)

  it("makes pictures", function()
    local job = assert(client:submit(helper.request("a fox", { numberResults = 2 })))
    assert.equal("queued", job.state)
    local images = assert(job:wait())
    assert.equal(2, #images)
    assert.equal("done", job.state)
    assert.is_nil(job.error)
    assert.equal(128, images[1].width)
    assert.equal(7, images[1].seed)
    assert.equal(8, images[2].seed)
    assert.equal("a fox", images[1].recipe.positivePrompt)
    assert.equal(7, images[1].recipe.seed)
    assert.equal(job.uuid, job.task.taskUUID)
    assert.same(images, job:wait())
  end)

  it("tells its events in order", function()
    local seen = {}
    local job = assert(client:submit(helper.request(nil, { numberResults = 2 }), { on = {
      queued = function(position) seen[#seen + 1] = "queued " .. position end,
    } }))
    for _, kind in ipairs { "started", "step", "image", "end" } do
      job:on(kind, function() seen[#seen + 1] = kind end)
    end
    assert(job:wait())
    assert.equal("queued 0", seen[1])
    assert.equal("started", seen[2])
    assert.equal("end", seen[#seen])
    local images = 0
    for _, kind in ipairs(seen) do
      images = images + (kind == "image" and 1 or 0)
    end
    assert.equal(2, images)
  end)

  it("gives steps, pictures and events to iterators", function()
    local job = assert(client:submit(helper.request(nil, { numberResults = 3, steps = 4 })))
    local events = job:events()
    local last, steps
    for step, of in job:steps() do
      last, steps = step, of
    end
    assert.equal(4, last)
    assert.equal(4, steps)
    assert.same({ 4, 4, 3 }, { job:progress() })
    local indexes = {}
    for image, index in job:images() do
      assert.equal(6 + index, image.seed)
      indexes[#indexes + 1] = index
    end
    table.sort(indexes)
    assert.same({ 1, 2, 3 }, indexes)
    local kinds = {}
    for kind in events do
      kinds[kind] = true
    end
    assert.is_true(kinds.queued and kinds.step and kinds.image and kinds["end"])
    assert.is_nil(events:next())
  end)

  it("gives what the core has as previews", function()
    local job = assert(client:submit(helper.request()))
    local heard = 0
    job:on("preview", function(image, index)
      assert.truthy(image.width > 0 and index >= 1)
      heard = heard + 1
    end)
    local seen = 0
    for image, index in job:previews() do
      assert.truthy(image.width > 0 and index >= 1)
      seen = seen + 1
    end
    assert.equal("done", job.state) -- the iterator ends with the job, with or without previews
    assert.truthy(seen <= heard)
  end)

  it("hands previews to handlers and iterators", function()
    local job = assert(client:submit(helper.request("stub:hang")))
    helper.eventually(function() return job.state == "running" end, client)
    local small, heard = reverie.image("abc", 1, 1), nil
    job:on("preview", function(image, index) heard = { image, index } end)
    local previews, events = job:previews(), job:events()
    job:_hear(nil, false, 2, 3, 8, small, 1, false, false) -- what client:dispatch passes on
    assert.same({ small, 1 }, heard)
    assert.same({ small, 1 }, { previews:next() })
    assert.same({ "step", 3, 8, 2 }, { events:next() })
    assert.same({ "preview", small, 1 }, { events:next() })
    job:cancel()
    assert.is_nil(previews:next())
  end)

  it("can be cancelled while it waits, runs, and after its end", function()
    local running = {}
    for i = 1, 6 do -- four run, two wait
      running[i] = assert(client:submit(helper.request("stub:hang " .. i)))
    end
    helper.eventually(function() return running[1].state == "running" end, client)
    for _, job in ipairs(running) do
      job:cancel()
      job:cancel()
    end
    for _, job in ipairs(running) do
      local images, message, err = job:wait()
      assert.is_nil(images)
      assert.equal("cancelled", err.code)
      assert.equal(message, tostring(err))
      assert.equal("stopped", job.state)
      job:cancel()
    end
  end)

  it("tells why it failed, with the core's facts", function()
    for word, retryable in pairs { serverError = true, rateLimit = true, safety = false, provider = true } do
      local job = assert(client:submit(helper.request("stub:fail=" .. word)))
      local images, message, err = job:wait()
      assert.is_nil(images)
      assert.equal(word, err.code)
      assert.is_string(message)
      assert.equal(retryable, err.retryable)
      assert.equal("failed", job.state)
      assert.equal(err, job.error)
      assert.equal(job.uuid, err.job)
    end
  end)

  it("keeps the pictures made before a failure", function()
    local job = assert(client:submit(helper.request("stub:fail=serverError stub:after=2", { numberResults = 3 })))
    assert.is_nil(job:wait())
    local n = 0
    for _ in job:images() do
      n = n + 1
    end
    assert.equal(2, n)
  end)

  it("is tried again when that may help, and only then", function()
    local attempts = {}
    local job = assert(client:submit(helper.request("stub:fail=rateLimit"), { retries = 1 }))
    job:on("retry", function(err, n) attempts[#attempts + 1] = err.code .. n end)
    local _, _, err = job:wait()
    assert.same({ "rateLimit1" }, attempts)
    assert.equal(2, err.attempts)
    _, _, err = client:generate(helper.request("stub:fail=safety"), { retries = 5 })
    assert.equal(1, err.attempts)
  end)

  it("can be cancelled between two attempts", function()
    local job = assert(client:submit(helper.request("stub:fail=busy"), { retries = 9 }))
    helper.eventually(function() return job._due end, client)
    job:cancel()
    assert.equal("stopped", job.state)
    local _, _, err = job:wait()
    assert.equal("cancelled", err.code)
    assert.equal(0, client:live())
  end)

  it("may wait for a while and go on", function()
    local job = assert(client:submit(helper.request("stub:hang")))
    local images, _, err = job:wait(0.02)
    assert.is_nil(images)
    assert.equal("timeout", err.code)
    assert.is_nil(job.ended)
    job:cancel()
    job:wait()
  end)

  it("has a limit of time", function()
    local images, message, err = client:generate(helper.request("stub:hang"), { timeout = 0.03 })
    assert.is_nil(images)
    assert.equal("timeout", err.code)
    assert.truthy(message:find("0.03 seconds", 1, true))
    assert.equal(504, err.status)
  end)

  it("says that the queue is full", function()
    local small = assert(reverie.client { engine = "stub", queue = 2 })
    local a = assert(small:submit(helper.request("stub:hang")))
    assert(small:submit(helper.request("stub:hang")))
    local job, _, err = small:submit(helper.request())
    assert.is_nil(job)
    assert.equal("busy", err.code)
    assert.is_true(err.retryable)
    a:cancel()
    small:close()
  end)

  it("saves under names that never collide", function()
    local made = assert(client:generate(helper.request(nil, { numberResults = 2 }), helper.path("many.png")))
    assert.equal(2, #made)
    assert(reverie.open(helper.path("many-1.png")))
    assert(reverie.open(helper.path("many-2.png")))
    assert(client:generate(helper.request(nil, { numberResults = 2 }), { save = helper.path("n%03d-{seed}.webp") }))
    assert(reverie.open(helper.path("n001-7.webp")))
    assert(reverie.open(helper.path("n002-8.webp")))
    local images, message, err = client:generate(helper.request(), helper.path("none/x.png"))
    assert.is_nil(images)
    assert.equal("io", err.code)
    assert.truthy(message:find("none/x.png", 1, true))
  end)

  it("reports progress to generate", function()
    local last
    assert(client:generate(helper.request(), { progress = function(step, steps) last = step .. "/" .. steps end }))
    assert.equal("3/3", last)
  end)

  it("raises errors of handlers once all is told, or logs them", function()
    local job = assert(client:submit(helper.request()))
    job:on("started", function() error("oops") end)
    local ended = false
    job:on("end", function() ended = true end)
    local raised
    while not job.ended do
      client:poll(1)
      local ok, message = pcall(client.dispatch, client)
      raised = raised or not ok and message
    end
    assert.truthy(tostring(raised):find("oops", 1, true))
    assert.is_true(ended)
    local lines = {}
    local logging = assert(reverie.client { engine = "stub", log = function(_, text) lines[#lines + 1] = text end })
    job = assert(logging:submit(helper.request()))
    job:on("started", function() error("again") end)
    assert(job:wait())
    logging:close()
    assert.truthy(table.concat(lines, "\n"):find("again", 1, true))
  end)

  it("lets handlers submit, cancel and close", function()
    local second
    local first = assert(client:submit(helper.request()))
    first:on("end", function() second = assert(client:submit(helper.request("second"))) end)
    assert(first:wait())
    assert(second:wait())
    local third = assert(client:submit(helper.request("stub:hang")))
    third:on("started", function() third:cancel() end)
    third:wait()
    assert.equal("stopped", third.state)
    local fourth = assert(client:submit(helper.request("stub:hang")))
    fourth:on("started", function() client:close() end)
    assert.is_nil(fourth:wait())
    assert.equal("stopped", fourth.state)
  end)

  it("is described by tostring", function()
    local job = assert(client:submit(helper.request()))
    assert.truthy(tostring(job):find(job.uuid, 1, true))
    assert.equal("reverie.client (stub, 1 jobs)", tostring(client))
    job:wait()
    assert.same({ live = 0, submitted = 1, done = 1, failed = 0, stopped = 0, images = 1 }, client:stats())
  end)

  it("measures with a clock that goes on", function()
    local before = core.now()
    core.sleep(0.002)
    assert.truthy(core.now() > before)
  end)
end)
