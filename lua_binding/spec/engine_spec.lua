-- The same script with the engine in this process and with reveried: the small model that ships makes a real picture.
local core = require "reverie.core"
local helper = require "spec.helper"
local reverie = require "reverie"

local small = { model = "reverie-demo", positivePrompt = "a red house", width = 128, height = 128, steps = 2, seed = 3 }

describe("the engine", function()
  after_each(helper.finish)

  it("makes a picture in this process, with previews on the way", function()
    local client = assert(reverie.client { engine = "local", preview_steps = 1, threads = 2 })
    local job = assert(client:submit(small))
    local previews = 0
    for preview, index in job:previews() do
      assert.equal(1, index)
      assert.truthy(preview.width > 0 and preview.width <= 128)
      previews = previews + 1
    end
    local image = assert(job:wait())[1]
    assert.equal(128, image.width)
    assert.equal("a red house", image.recipe.positivePrompt)
    assert.truthy(previews >= 1)
    client:close()
  end)

  it("starts from another picture", function()
    local client = assert(reverie.client { engine = "local", threads = 2 })
    local request = {}
    for key, value in pairs(small) do
      request[key] = value
    end
    request.steps = 4
    local plain = assert(client:generate(request))[1]:pixels("rgb")
    request.seedImage, request.strength = reverie.image(("\40\90\160"):rep(128 * 128), 128, 128), 0.5
    local near = assert(client:generate(request))[1]:pixels("rgb")
    local function distance(pixels) -- from the given colour
      local sum = 0
      for i = 1, #pixels, 3 do
        local r, g, b = pixels:byte(i, i + 2)
        sum = sum + math.abs(r - 40) + math.abs(g - 90) + math.abs(b - 160)
      end
      return sum / #pixels
    end
    assert.truthy(distance(near) < distance(plain))
    client:close()
  end)

  it("can be left at any time", function()
    local client = assert(reverie.client { engine = "local", threads = 2 })
    local job = assert(client:submit { model = "reverie-demo", positivePrompt = "a red house", steps = 50 })
    client:poll(0.05)
    client:dispatch()
    client:close()
    assert.equal("stopped", job.state)
  end)
end)

describe("reveried", function()
  local socket = helper.path("reveried.sock")
  local pid

  setup(function()
    local command = ("cd %s && %s/reveried --socket %s --state %s --executor stub --models %s/config/models")
      :format(helper.work, helper.build, socket, helper.path("state"), helper.root)
    pid = assert(helper.shell(("%s >%s.log 2>&1 & echo $!"):format(command, socket)):match("%d+"))
    helper.eventually(function() return core.readable(socket) end)
  end)

  teardown(function()
    helper.shell("kill " .. pid)
    helper.eventually(function() return not select(2, helper.shell("kill -0 " .. pid)) end)
  end)

  after_each(helper.finish)

  it("serves the same script", function()
    local client = assert(reverie.client { engine = "unix:" .. socket })
    local job = assert(client:submit(helper.request("a fox", { numberResults = 2 })))
    local steps = 0
    job:on("step", function() steps = steps + 1 end)
    local images = assert(job:wait())
    assert.equal(2, #images)
    assert.truthy(steps >= 1)
    assert.equal(8, images[2].seed)
    assert.equal("a fox", images[1].recipe.positivePrompt)
    local here = assert(reverie.generate(helper.request("a fox")))[1]
    assert.equal((here:pixels()), (assert(reverie.read(images[1]:bytes("png"))):pixels()))
    client:close()
  end)

  it("tells its failures, and stops what is cancelled", function()
    local client = assert(reverie.client { engine = "unix:" .. socket })
    local err
    for _, word in ipairs { "safety", "rateLimit", "provider", "serverError", "busy" } do
      local images, message
      images, message, err = client:generate(helper.request("stub:fail=" .. word))
      assert.is_nil(images)
      assert.is_string(message)
      assert.equal(word, err.code)
    end
    local job = assert(client:submit(helper.request("stub:hang")))
    helper.eventually(function() return job.state == "running" end, client)
    job:cancel()
    err = select(3, job:wait())
    assert.equal("cancelled", err.code)
    assert.equal("stopped", job.state)
    client:close()
  end)
end)
