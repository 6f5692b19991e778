local helper = require "spec.helper"
local reverie = require "reverie"

local function requests(n, prompt)
  local list = {}
  for i = 1, n do
    list[i] = helper.request((prompt or "number %d"):format(i), { seed = i })
  end
  return list
end

describe("many requests", function()
  local client
  before_each(function() client = assert(reverie.client { engine = "stub", stub_ms = 1, parallel = 3 }) end)
  after_each(function()
    client:close()
    helper.finish()
  end)

  it("come as they get ready, with at most so many at once", function()
    local seen, most = {}, 0
    for request, images in client:each(requests(10)) do
      most = math.max(most, client:live())
      assert.equal(request.seed, images[1].seed)
      seen[request.seed] = true
    end
    assert.equal(10, #seen)
    assert.truthy(most <= 3)
  end)

  it("come in the order of asking", function()
    local list, i = requests(6), 0
    list[1].steps = 30
    for request in client:each(list, { order = "asked" }) do
      i = i + 1
      assert.equal(list[i], request)
    end
    assert.equal(6, i)
  end)

  it("take a million prompts without asking for them first", function()
    local asked = 0
    local it = client:each(function()
      asked = asked + 1
      return helper.request("p" .. asked)
    end)
    for _ = 1, 5 do
      assert.is_table((it:next()))
    end
    assert.truthy(asked <= 8)
    it:close()
    assert.is_nil((it:next()))
    helper.eventually(function() return client:live() == 0 end, client)
  end)

  it("go on past failures", function()
    local list = requests(4)
    list[2].positivePrompt = "stub:fail=safety"
    list[3].width = 7
    local good, codes = 0, {}
    for _, images, message, err in client:each(list) do
      if images then
        good = good + 1
      else
        assert.is_string(message)
        codes[#codes + 1] = err.code
      end
    end
    table.sort(codes)
    assert.equal(2, good)
    assert.same({ "safety", "validation" }, codes)
  end)

  it("wait for room in a full queue", function()
    local narrow = assert(reverie.client { engine = "stub", queue = 2 })
    local n = 0
    for _, images in narrow:each(requests(6), { parallel = 5 }) do
      assert.is_table(images)
      n = n + 1
    end
    assert.equal(6, n)
    narrow:close()
  end)

  it("stop when the iterator is forgotten", function()
    do
      local it = client:each(requests(3, "stub:hang %d"))
      it:_fill()
      assert.equal(3, client:live())
    end
    helper.eventually(function()
      collectgarbage()
      client:poll(0.01)
      return client:dispatch() == 0
    end)
  end)

  if helper.abi == "5.4" then
    it("stop at once when a loop is left early", function()
      local load = load
      local f = assert(load([[
        local client, list = ...
        for request in client:each(list) do
          break
        end
        do
          local it <close> = client:each(list)
          it:_fill()
        end
        local job <close> = assert(client:submit(list[1]))
        local own <close> = require("reverie").client { engine = "stub" }
        return job
      ]]))
      local job = f(client, requests(3))
      job:wait()
      helper.eventually(function() return client:live() == 0 end, client)
    end)
  end

  it("can all be waited for", function()
    local results = assert(client:all(requests(5)))
    for i = 1, 5 do
      assert.equal(i, results[i][1].seed)
    end
    local list = requests(3)
    list[2].positivePrompt = "stub:fail=provider"
    local none, _, err = client:all(list)
    assert.is_nil(none)
    assert.equal("provider", err.code)
    assert.equal("provider", err.errors[2].code)
    assert.equal(3, err.results[3][1].seed)
    assert.same({}, client:all {})
  end)

  it("can race", function()
    local list = requests(3)
    list[1].positivePrompt = "stub:hang"
    list[2].positivePrompt = "stub:fail=provider"
    local images, which = client:race(list)
    assert.equal(3, which)
    assert.equal(3, images[1].seed)
    helper.eventually(function() return client:live() == 0 end, client)
    local none, _, err = client:race { list[2] }
    assert.is_nil(none)
    assert.equal("provider", err.code)
    assert.is_nil((client:race {}))
  end)

  it("run ten at once with progress for each", function()
    local progress, done = {}, 0
    local wide = assert(reverie.client { engine = "stub", stub_ms = 2 })
    for i = 1, 10 do
      local job = assert(wide:submit(helper.request("job " .. i, { steps = 6 })))
      job:on("step", function(step, steps) progress[i] = step .. "/" .. steps end)
      job:on("end", function(state) done = done + (state == "done" and 1 or 0) end)
    end
    assert.equal(10, wide:live())
    wide:run()
    assert.equal(10, done)
    for i = 1, 10 do
      assert.equal("6/6", progress[i])
    end
    wide:close()
  end)

  it("run side by side in coroutines", function()
    local order = {}
    for i = 1, 10 do
      client:go(function()
        local job = assert(client:submit(helper.request("co " .. i)))
        local steps, it = 0, job:steps()
        while it:next() do
          steps = steps + 1
        end
        assert.truthy(steps > 0)
        order[#order + 1] = i
        assert(client:generate(helper.request("second " .. i)))
        order[#order + 1] = i
      end)
    end
    client:run()
    assert.equal(20, #order)
    assert.has_error(function() client:go(function() error("inside") end) end)
  end)
end)

describe("templates", function()
  after_each(helper.finish)

  it("make all combinations in the order of the text", function()
    local t = reverie.template("a {animal} by {painter}, {{literally}", { animal = { "fox", "owl" },
      painter = { "X", "Y" } }):with { width = 256, height = 256 }
    assert.equal(4, t:count())
    local prompts = {}
    for request in t do
      prompts[#prompts + 1] = request.positivePrompt
      assert.equal(256, request.width)
    end
    assert.same({ "a fox by X, {literally}", "a fox by Y, {literally}", "a owl by X, {literally}",
      "a owl by Y, {literally}" }, prompts)
    assert.same({ animal = "owl", painter = "X" }, select(2, t:request(3)))
    assert.is_nil(t:request(5))
    assert.is_nil(t:next())
  end)

  it("need a list for each name", function()
    assert.has_error(function() reverie.template("a {thing}", {}) end)
    assert.has_error(function() reverie.template("a {thing}", { thing = {} }) end)
    assert.equal(1, reverie.template("nothing to fill"):count())
  end)

  it("feed each", function()
    local n = 0
    for _, images in reverie.each(reverie.template("{x}", { x = { "aa", "bb" } }):with(helper.request())) do
      assert.is_table(images)
      n = n + 1
    end
    assert.equal(2, n)
  end)

  it("sweep parameters", function()
    local steps = {}
    for request, values in reverie.sweep({ positivePrompt = "x" }, { steps = { 4, 8 }, CFGScale = { 1, 3 } }) do
      steps[#steps + 1] = ("%d:%d"):format(request.CFGScale, values.steps)
    end
    assert.same({ "1:4", "1:8", "3:4", "3:8" }, steps)
    local ordered = reverie.sweep({}, { { "steps", { 1, 2 } }, { "CFGScale", { 3, 4 } } })
    assert.same({ steps = 1, CFGScale = 4 }, ordered:request(2))
  end)
end)
