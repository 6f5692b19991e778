local core = require "reverie.core"
local reverie = require "reverie"
local json = reverie.json

describe("JSON", function()
  it("writes names in order, and lists as lists", function()
    assert.equal('{"a":1,"b":[true,false,"x"],"c":{"d":0.5}}',
      json.encode { c = { d = 0.5 }, b = { true, false, "x" }, a = 1 })
  end)

  it("knows from the schema what an empty table is", function()
    local shape = { properties = { lora = { type = "array" }, safety = { type = "object" } } }
    assert.equal('{"lora":[],"other":{},"safety":{}}', json.encode({ lora = {}, safety = {}, other = {} }, shape))
  end)

  it("keeps large integers exact", function()
    local shape = { properties = { seed = { type = "integer" }, name = { type = "string" } } }
    assert.equal('{"name":"12","seed":9223372036854775999}',
      json.encode({ seed = "9223372036854775999", name = "12" }, shape))
    assert.equal("9007199254740992", json.encode(2 ^ 53))
    assert.equal("-3", json.encode(-3))
    assert.equal("9223372036854775999", json.decode("9223372036854775999"))
    assert.equal("18446744073709551615", json.decode("18446744073709551615"))
    assert.equal(9007199254740992, json.decode("9007199254740992"))
    local big = json.decode("9007199254740993") -- fits an integer, not a double
    assert.equal("9007199254740993", tostring(big))
  end)

  it("writes fractions that read back the same", function()
    for _, value in ipairs { 0.1, 1 / 3, 1e300, 5e-324, 123456789.125, -2.5 } do
      assert.equal(value, json.decode(json.encode(value)))
    end
    assert.equal("0.1", json.encode(0.1))
  end)

  it("writes fractions with a point in every locale", function()
    local old = os.setlocale(nil, "numeric")
    os.setlocale("de_DE.UTF-8", "numeric")
    assert.equal("0.5", json.encode(0.5))
    assert.equal(0.25, json.decode("0.25"))
    os.setlocale(old, "numeric")
  end)

  it("escapes what must be escaped, NUL included", function()
    local text = 'a"b\\c\n\0d\127é'
    assert.equal('"a\\"b\\\\c\\u000a\\u0000d\127é"', json.encode(text))
    assert.equal(text, json.decode(json.encode(text)))
    assert.equal("é€😀", json.decode('"\\u00e9\\u20ac\\ud83d\\ude00"'))
    assert.equal("\239\191\189", json.decode('"\\ud83d"'))
  end)

  it("refuses what cannot be sent, with its place", function()
    local cycle = {}
    cycle.again = cycle
    for _, case in ipairs {
      { { a = { b = print } }, "a.b", "cannot be sent" },
      { { lora = { { weight = 0 / 0 } } }, "lora[1].weight", "finite" },
      { { x = math.huge }, "x", "finite" },
      { { list = { 1, 2, name = 3 } }, "list", "names or the positions" },
      { { list = { [1] = 1, [3] = 3 } }, "list", "names or the positions" },
      { { [true] = 1 }, "", "names or the positions" },
      { { ["a\0b"] = 1 }, "", "names or the positions" },
      { { co = coroutine.create(function() end) }, "co", "cannot be sent" },
    } do
      local text, path, problem = json.encode(case[1])
      assert.is_nil(text)
      assert.equal(case[2], path)
      assert.truthy(problem:find(case[3], 1, true))
    end
    local text, _, problem = json.encode(cycle)
    assert.is_nil(text)
    assert.truthy(problem:find("contain itself", 1, true))
  end)

  it("answers damaged text with a message", function()
    for _, text in ipairs { "", "{", "[1,", '{"a"}', '{"a":}', '"open', '"\\u12"', '"\\x"', "tru", "1.2.3", "+1", "--1",
      "[1] 2", "nan", "\0", '{"a":1,}', "[,]", ("["):rep(100000), "1e", "0x10" } do
      local value, message = json.decode(text)
      assert.is_nil(value)
      assert.truthy(message:find("not JSON", 1, true))
    end
  end)

  it("reads every prefix and many corruptions of a good text without harm", function()
    local text = '{"a":[1,-2.5e3,"x\\u00e9\\n",true,false,null],"b":{"c":{}}}'
    assert.is_table(json.decode(text))
    for i = 0, #text - 1 do
      assert.is_nil((json.decode(text:sub(1, i))))
      for _, c in ipairs { "\0", "\255", '"', "\\", "[", "}" } do
        json.decode(text:sub(1, i) .. c .. text:sub(i + 2))
      end
    end
  end)

  it("has one null", function()
    assert.equal(reverie.null, json.decode("[null]")[1])
    assert.equal("[null]", json.encode { reverie.null })
  end)

  it("sends images as data URIs", function()
    local image = reverie.image(("\1\2\3"):rep(6), 3, 2)
    local text = json.encode { seedImage = image }
    local base64 = text:match('^{"seedImage":"data:image/png;base64,([%w+/=]+)"}$')
    assert.truthy(base64)
    assert.equal(math.ceil(#image:bytes("png") / 3) * 4, #base64)
  end)
end)

describe("small helpers", function()
  it("make version 4 UUIDs", function()
    local a, b = core.uuid(), core.uuid()
    assert.truthy(a:match("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x+$"))
    assert.equal(36, #a)
    assert.not_equal(a, b)
  end)

  it("make file names from any text", function()
    assert.equal("a-red-fox", reverie.slug("  A red: fox! "))
    assert.equal("picture", reverie.slug("…"))
    assert.equal("abc", reverie.slug("abcdef", 3))
  end)
end)
