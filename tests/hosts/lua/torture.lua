-- What tests/hosts/lua/torture.c runs while memory fails.  Modules are loaded and one client is warm before.
local reverie = require "reverie"
local core = require "reverie.core"
math.randomseed(1)

local function request(prompt)
  return { positivePrompt = prompt, width = 128, height = 128, steps = 2, seed = 5, model = "runware:97@3",
    numberResults = 2 }
end

return function()
  local client = assert(reverie.client { engine = "stub", log = function() end })
  assert(not client:check { width = 1000, steps = 0, lora = {}, colour = "red" })
  local job = assert(client:submit(request("first")))
  job:on("step", function() end)
  local cancelled = assert(client:submit(request("stub:hang")))
  client:poll(0.01)
  client:dispatch()
  cancelled:cancel()
  for image in job:images() do
    assert(#assert(image:bytes("png")) > 0)
    assert(image:pixels("rgba"))
    assert(image:pixels("gray"))
    assert(reverie.image(image:pixels("rgb"), 128, 128))
    assert(image.recipe)
    assert(image:thumbnail(16))
    assert(client:encode(image, "webp"))
    assert(reverie.read(assert(image:bytes("jpg"))))
  end
  assert(job:wait())
  for _, images, message in client:each({ request("second"), request("third") }, { parallel = 2 }) do
    assert(images, message)
  end
  local forgotten = assert(client:submit(request("stub:hang forgotten")))
  forgotten:on("started", function() error("a handler fails") end)
  client:poll(0.01)
  client:dispatch()
  assert(core.decode('{"a":[1,2.5,"x\\u00e9",null,9223372036854775999]}'))
  assert(client:plan(request("plan")))
  client:close()
end
