local helper = require "spec.helper"
local reverie = require "reverie"

local function gradient(width, height, channels)
  local bytes = {}
  for y = 0, height - 1 do
    for x = 0, width - 1 do
      for c = 1, channels do
        bytes[#bytes + 1] = string.char(math.floor((x * 3 + y * 5 + c * 40) % 256))
      end
    end
  end
  return table.concat(bytes)
end

describe("an image", function()
  after_each(helper.finish)

  it("takes pixels and gives them back", function()
    for layout, channels in pairs { rgb = 3, rgba = 4 } do
      local pixels = gradient(13, 7, channels)
      local image = assert(reverie.image(pixels, 13, 7, layout))
      assert.equal(13, image.width)
      assert.equal(7, image.height)
      assert.equal(channels, image.channels)
      local out, w, h = image:pixels()
      assert.equal(pixels, out)
      assert.same({ 13, 7 }, { w, h })
      assert.equal(pixels, (assert(reverie.read(image:bytes("png"))):pixels(layout)))
    end
  end)

  it("converts layouts", function()
    local image = reverie.image("\1\2\3\4\5\6", 2, 1)
    assert.equal("\1\2\3\255\4\5\6\255", (image:pixels("rgba")))
    assert.equal("\1\2\3\4\5\6", (reverie.image("\1\2\3\9\4\5\6\8", 2, 1, "rgba"):pixels("rgb")))
    local gray = reverie.image("\0\100\255", 3, 1, "gray")
    assert.equal("\0\100\255", (gray:pixels("gray")))
    assert.equal("\0\0\0\100\100\100\255\255\255", (gray:pixels()))
    assert.has_error(function() image:pixels("cmyk") end)
  end)

  it("is a function of place", function()
    local image = reverie.image("\1\2\3\4\5\6", 2, 1)
    assert.same({ 4, 5, 6 }, { image(1, 0) })
    assert.same({ 1, 2, 3 }, { image(0, 0) })
    assert.same({}, { image(2, 0) })
    assert.same({}, { image(-1, 0) })
    assert.same({}, { image(0 / 0, 0) })
    assert.equal(4, select("#", reverie.image("abcd", 1, 1, "rgba")(0, 0)))
  end)

  it("refuses sizes that do not fit", function()
    for _, case in ipairs { { "abc", 2, 1 }, { "", 0, 0 }, { "abc", -1, 1 }, { "abc", 1.5, 1 }, { "abc", 1, 2 ^ 40 },
      { "abc", 0 / 0, 1 }, { "ab", 1, 1, "rgb" } } do
      assert.has_error(function() reverie.image(case[1], case[2], case[3], case[4]) end)
    end
  end)

  it("speaks every format, with a quality", function()
    local image = assert(reverie.image(gradient(64, 48, 3), 64, 48))
    for format, magic in pairs { png = "\137PNG", jpg = "\255\216", webp = "RIFF", JPEG = "\255\216" } do
      local bytes = assert(image:bytes(format))
      assert.equal(magic, bytes:sub(1, #magic))
      assert.equal(64, assert(reverie.read(bytes)).width)
    end
    assert.truthy(#image:bytes("jpg", 30) < #image:bytes("jpg", { quality = 99 }))
    local bytes, message, err = image:bytes("gif")
    assert.is_nil(bytes)
    assert.equal("validation", err.code)
    assert.equal("invalidOutputFormat", err.wire)
    assert.truthy(message:find("PNG", 1, true))
    assert.is_nil((image:bytes("jpg", 5)))
  end)

  it("can be encoded and saved beside a loop", function()
    local image = assert(reverie.image(gradient(64, 48, 3), 64, 48))
    assert.equal(image:bytes("png"), assert(reverie.encode(image)))
    assert.equal(image:bytes("jpg", 50), assert(reverie.encode(image, "jpg", { quality = 50 })))
    assert.is_true(reverie.save(image, helper.path("beside.webp"), { quality = 50 }))
    assert.equal(64, assert(reverie.open(helper.path("beside.webp"))).width)
    local bytes, _, err = reverie.encode(image, "gif")
    assert.is_nil(bytes)
    assert.equal("validation", err.code)
    bytes, _, err = reverie.save(image, helper.path("none/x.png"))
    assert.is_nil(bytes)
    assert.equal("io", err.code)
    require("reverie.core").work(image, nil, "png") -- forgotten at once
    collectgarbage()
  end)

  it("saves and opens files", function()
    local image = assert(reverie.image(gradient(16, 16, 3), 16, 16))
    for _, name in ipairs { "a.png", "a.jpg", "a.jpeg", "a.webp" } do
      assert.is_true(image:save(helper.path(name)))
      assert.equal(16, assert(reverie.open(helper.path(name))).width)
    end
    assert.is_true(image:save(helper.path("b.webp"), { quality = 40 }))
    assert.is_true(image:save(helper.path("c.bin"), { format = "png" }))
    assert.equal("\137PNG", helper.read(helper.path("c.bin")):sub(1, 4))
    local ok, message, err = image:save(helper.path("d.xyz"))
    assert.is_string(message)
    assert.is_nil(ok)
    assert.equal("validation", err.code)
    ok, message, err = image:save(helper.path("none/a.png"))
    assert.is_string(message)
    assert.is_nil(ok)
    assert.equal("io", err.code)
  end)

  it("answers files that are none", function()
    local image, message, err = reverie.open(helper.path("missing.png"))
    assert.is_nil(image)
    assert.equal("io", err.code)
    assert.truthy(message:find("missing.png", 1, true))
    image, message, err = reverie.read("hello")
    assert.is_nil(image)
    assert.is_string(message)
    assert.equal("format", err.code)
    image, message, err = reverie.open("/")
    assert.is_nil(image)
    assert.is_string(message)
    assert.equal("io", err.code)
    local good = reverie.image(gradient(16, 16, 3), 16, 16):bytes("png")
    local broken = reverie.read(good:sub(1, #good - 30))
    if broken then -- the header was whole
      local pixels
      pixels, message, err = broken:pixels()
      assert.is_nil(pixels)
      assert.is_string(message)
      assert.equal("format", err.code)
      assert.is_nil((broken:thumbnail(4)))
      assert.same({}, { broken(0, 0) })
    end
  end)

  it("carries its recipe", function()
    local made = assert(reverie.generate(helper.request("a heron"), helper.path("heron.webp")))[1]
    assert.equal("a heron", made.recipe.positivePrompt)
    local opened = assert(reverie.open(helper.path("heron.webp")))
    assert.same(made.recipe, opened.recipe)
    assert.equal(7, opened.seed)
    local again = assert(reverie.again(opened))[1]
    assert.equal((made:pixels()), (again:pixels()))
    local other = assert(reverie.again(opened, { seed = 8 }))[1]
    assert.not_equal((made:pixels()), (other:pixels()))
    local blank = reverie.image("abc", 1, 1)
    assert.is_nil(blank.recipe)
    assert.is_nil(blank.seed)
    local none, _, err = reverie.again(blank)
    assert.is_nil(none)
    assert.equal("notFound", err.code)
  end)

  it("keeps facts and has no others", function()
    local image = assert(reverie.generate(helper.request("stub:nsfw")))[1]
    assert.is_true(image.flagged)
    assert.is_string(image.uuid)
    assert.is_number(image.cost)
    assert.is_nil(image.url)
    assert.is_nil(image.nothing)
    assert.is_nil(image[1])
    assert.equal("reverie.image 128x128", tostring(image))
  end)

  it("is the same image however it is reached", function()
    local client = assert(reverie.client())
    local job = assert(client:submit(helper.request()))
    local first = assert(job:wait())[1]
    assert.is_true(first == job._core:image(1))
    assert.is_false(first == reverie.image("abc", 1, 1))
    client:close()
    assert.equal(128, first.width) -- outlives its client
    assert.is_string((first:pixels()))
  end)

  it("gets smaller", function()
    local image = assert(reverie.image(gradient(100, 50, 3), 100, 50))
    local small = image:thumbnail(20)
    assert.same({ 20, 10 }, { small.width, small.height })
    local r = small(3, 3)
    local sum = 0
    for y = 15, 19 do
      for x = 15, 19 do
        sum = sum + (image(x, y))
      end
    end
    assert.equal(math.floor(sum / 25 + 0.5), r)
    assert.equal(image, image:thumbnail(100))
    assert.equal(1, image:thumbnail(1).height)
    assert.has_error(function() image:thumbnail(0) end)
  end)

  it("can be closed, twice", function()
    local image = reverie.image("abc", 1, 1)
    image:close()
    image:close()
    assert.is_true(image.closed)
    assert.equal("reverie.image (closed)", tostring(image))
    assert.has_error(function() image:pixels() end)
    assert.is_nil(image.width)
  end)

  it("shows LuaJIT its pixels without a copy", function()
    local image = reverie.image("abcdef", 2, 1)
    local pointer, size, channels = image:pointer()
    assert.equal("userdata", type(pointer))
    assert.same({ 6, 3 }, { size, channels })
    local has_ffi, ffi = pcall(require, "ffi")
    if has_ffi then
      assert.equal("abcdef", ffi.string(ffi.cast("const char *", pointer), size))
    end
  end)

  it("makes sheets", function()
    local images = {}
    for i = 1, 5 do
      images[i] = reverie.image(string.rep(string.char(i * 40, 0, 0), 8 * 6), 8, 6)
    end
    images[6] = reverie.image(string.rep("\9\9\9", 4 * 4), 4, 4)
    local sheet = assert(reverie.sheet(images, { columns = 3, gap = 2, background = "#0000ff" }))
    assert.same({ 3 * 10 + 2, 2 * 8 + 2 }, { sheet.width, sheet.height })
    assert.same({ 0, 0, 255 }, { sheet(0, 0) })
    assert.same({ 40, 0, 0 }, { sheet(2, 2) })
    assert.same({ 80, 0, 0 }, { sheet(12, 2) })
    assert.same({ 160, 0, 0 }, { sheet(2, 10) })
    assert.same({ 0, 0, 255 }, { sheet(22, 10) }) -- beside the smaller one, which is centred
    assert.same({ 9, 9, 9 }, { sheet(24, 11) })
    assert.equal(4, assert(reverie.sheet({ images[1] }, { gap = 0, size = 4 })).width)
    local none, _, err = reverie.sheet {}
    assert.is_nil(none)
    assert.equal("misuse", err.code)
  end)
end)
