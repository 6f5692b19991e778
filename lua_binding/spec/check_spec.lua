local helper = require "spec.helper"
local reverie = require "reverie"

describe("checking", function()
  after_each(helper.finish)

  it("accepts a good request", function()
    local ok, warnings = reverie.check(helper.request())
    assert.is_true(ok)
    assert.same({}, warnings)
    assert.is_true((reverie.check { helper.request(), helper.request("another") }))
  end)

  it("tells every problem at once", function()
    local ok, message, err = reverie.check { width = 1000, height = 512, steps = 0, colour = "red" }
    assert.is_nil(ok)
    assert.equal("validation", err.code)
    assert.equal(400, err.status)
    assert.is_false(err.retryable)
    assert.equal(message, tostring(err))
    assert.truthy(message:find("^4 problems: "))
    local by_name = {}
    for _, issue in ipairs(err.issues) do
      by_name[issue.parameter] = issue
    end
    assert.equal(1008, by_name.width.nearest)
    assert.equal("step", by_name.width.rule)
    assert.same({ "/width" }, by_name.width.paths)
    assert.equal(1, by_name.steps.nearest)
    assert.equal("unknown", by_name.colour.rule)
    assert.equal("required", by_name.positivePrompt.rule)
  end)

  it("knows a model that is not there", function()
    local _, _, err = reverie.check(helper.request(nil, { model = "nobody:1@1" }))
    assert.equal("notFound", err.code)
    assert.equal("modelNotFound", err.wire)
    assert.equal("model", err.parameter)
  end)

  it("places what is no JSON", function()
    local ok, message, err = reverie.check { positivePrompt = "x", lora = { { weight = 0 / 0 } } }
    assert.is_nil(ok)
    assert.equal("validation", err.code)
    assert.equal("lora[1].weight must be a finite number", message)
    assert.equal("lora[1].weight", err.parameter)
  end)

  it("raises for what is no request", function()
    assert.has_error(function() reverie.check(12) end)
    assert.has_error(function() reverie.check() end)
  end)

  it("accepts decimal texts for integers and empty tables for lists", function()
    local _, _, err = reverie.check(helper.request(nil, { seed = "9223372036854775900", width = "256", height = 256,
      lora = {} }))
    assert.equal("lora", err.issues[1].parameter) -- an empty list, not an empty object
    assert.equal("length", err.issues[1].rule)
    assert.equal(1, #err.issues)
    local client = assert(reverie.client())
    local job = assert(client:submit(helper.request(nil, { seed = "9223372036854775900" })))
    assert.equal("9223372036854775900", assert(job:wait())[1].seed)
    client:close()
  end)

  it("finds the same problems as the command line in every published example", function()
    local expected = assert(reverie.json.decode(helper.read(helper.root .. "/tests/requests/expected.json")))
    local n, client = 0, assert(reverie.client())
    for name, issues in pairs(expected) do
      local path = helper.root .. "/tests/requests/" .. name .. ".json"
      local text = helper.read(path)
      local ok, _, err = client:check(text)
      local found = {}
      for _, issue in ipairs(not ok and err.issues or {}) do
        if not issue.warning then
          found[#found + 1] = { issue.code, issue.parameter }
        end
      end
      assert.same(issues, found, name)
      -- A Lua table of the same request: the same problems.
      local request = assert(reverie.json.decode(text))
      local again, _, table_err = client:check(request)
      assert.equal(ok, again)
      assert.same(err and err.issues, table_err and table_err.issues)
      n = n + 1
    end
    client:close()
    assert.truthy(n >= 40)
  end)

  it("says word for word what the command line says", function()
    local expected = assert(reverie.json.decode(helper.read(helper.root .. "/tests/requests/expected.json")))
    local client = assert(reverie.client())
    for name in pairs(expected) do
      local path = helper.root .. "/tests/requests/" .. name .. ".json"
      local out = helper.shell(("%s/reverie check --models %s/config/models %s"):format(helper.build,
        helper.root, path))
      local ok, more, err = client:check(helper.read(path))
      assert.same(assert(reverie.json.decode(out), out), ok and more or err.issues, name)
    end
    client:close()
  end)
end)

describe("repairs", function()
  after_each(helper.finish)

  it("apply what the issues suggest, in a copy", function()
    local wrong = { positiveprompt = "x", width = 1000, height = 512, steps = 0,
      lora = { { model = "a:1@1", weight = 9 } } }
    local fixed, changes = reverie.fix(wrong)
    assert.equal("x", fixed.positivePrompt)
    assert.equal(1008, fixed.width)
    assert.equal(1, fixed.steps)
    assert.equal(4, fixed.lora[1].weight)
    assert.equal(1000, wrong.width)
    assert.equal(4, #changes)
    assert.is_true((reverie.check(fixed)))
  end)

  it("leave alone what nobody can guess", function()
    local fixed, changes = reverie.fix { width = 512, height = 512 }
    assert.same({ width = 512, height = 512 }, fixed)
    assert.same({}, changes)
  end)
end)

describe("facts", function()
  after_each(helper.finish)

  it("come as a schema", function()
    local schema = assert(reverie.schema("hidream-i1-fast"))
    assert.equal(16, schema.properties.steps.default)
    assert.equal("array", schema.properties.lora.type)
    local none, message, err = reverie.schema("nobody")
    assert.is_nil(none)
    assert.equal("notFound", err.code)
    assert.truthy(message:find("nobody", 1, true))
    assert.is_table(reverie.schema())
  end)

  it("come as a list of models", function()
    local models = reverie.models()
    assert.truthy(#models >= 3)
    assert.is_string(models[1].id)
  end)

  it("come as help", function()
    local text = assert(reverie.help("steps", "hidream-i1-fast"))
    assert.truthy(text:find("default 16", 1, true))
    assert.truthy(reverie.help("lora.weight", "hidream-i1-fast"):find("%-4 to 4"))
    local none, _, err = reverie.help("nothing.at.all")
    assert.is_nil(none)
    assert.equal("notFound", err.code)
  end)

  it("come as a plan", function()
    local plan = assert(reverie.plan(helper.request(nil, { numberResults = 3 })))
    assert.equal("runware:97@3", plan.model)
    assert.equal(3, plan.images)
    assert.equal(128, plan.width)
    assert.equal(3, plan.steps)
    assert.is_number(plan.cost)
    local single = assert(reverie.plan(helper.request()))
    assert.truthy(math.abs(plan.cost - 3 * single.cost) < 1e-9)
    assert.is_nil((reverie.plan {}))
  end)
end)

describe("a client", function()
  after_each(helper.finish)

  it("refuses settings that are none", function()
    local client, message, err = reverie.client { colour = "red" }
    assert.is_nil(client)
    assert.equal("validation", err.code)
    assert.equal("colour", err.parameter)
    assert.is_string(message)
    client, message, err = reverie.client { threads = -1 }
    assert.is_nil(client)
    assert.equal("threads", err.parameter)
    assert.truthy(message:find("whole number", 1, true))
    client, message, err = reverie.client { models = "/nowhere/at/all" }
    assert.is_string(message)
    assert.is_nil(client)
    assert.is_string(err.code)
    assert.has_error(function() reverie.client { engine = "steam" } end)
  end)

  it("adds its defaults", function()
    local client = assert(reverie.client { strict = false, defaults = helper.request("default prompt") })
    local images = assert(client:generate {})
    assert.equal("default prompt", images[1].recipe.positivePrompt)
    assert.equal("mine", assert(client:generate { positivePrompt = "mine" })[1].recipe.positivePrompt)
    client:close()
  end)

  it("says that a server is not there", function()
    local client = assert(reverie.client { engine = "unix:" .. helper.path("nobody.sock") })
    local images, _, err = client:generate(helper.request())
    assert.is_nil(images)
    client:close()
    assert.equal("busy", err.code) -- the engine is away
    assert.is_true(err.retryable)
  end)

  it("raises instead, for those who prefer that", function()
    local ok, err = pcall(reverie.throw.generate, { width = 1 })
    assert.is_false(ok)
    assert.equal("validation", err.code)
    local client = reverie.throw.client { engine = "stub" }
    ok, err = pcall(client.generate, client, helper.request("stub:fail=safety"))
    assert.is_false(ok)
    assert.equal("safety", err.code)
    local job = client:submit(helper.request("stub:fail=provider"))
    ok, err = pcall(job.wait, job)
    assert.is_false(ok)
    assert.equal("provider", err.code)
    assert.equal(1, #client:generate(helper.request()))
    ok = pcall(reverie.throw.client, { colour = 1 })
    assert.is_false(ok)
    assert.equal(reverie.version, reverie.throw.version)
    client:close()
  end)

  it("takes one request at a time", function()
    local job, _, err = reverie.submit { helper.request(), helper.request() }
    assert.is_nil(job)
    assert.equal("misuse", err.code)
  end)
end)
