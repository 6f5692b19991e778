-- Contact sheets: many pictures on one, in rows.  Works on whole rows of pixels as texts, which Lua joins at memory
-- speed.
local core = require "reverie.core"
local failure = require "reverie.failure"

local function colour(hex)
  local r, g, b = tostring(hex or "#ffffff"):match("^#(%x%x)(%x%x)(%x%x)$")
  assert(r, "a background looks like #rrggbb")
  return string.char(tonumber(r, 16), tonumber(g, 16), tonumber(b, 16))
end

-- The rows of one picture, centred in a cell.
local function cell(image, width, height, background)
  local pixels, w, h = image:pixels("rgb")
  if not pixels then
    return nil, w, h
  end
  local left, top = math.floor((width - w) / 2), math.floor((height - h) / 2)
  local before, after, empty = background:rep(left), background:rep(width - w - left), background:rep(width)
  local rows = {}
  for y = 1, height do
    local from = y - top - 1
    if from < 0 or from >= h then
      rows[y] = empty
    else
      rows[y] = before .. pixels:sub(from * w * 3 + 1, (from + 1) * w * 3) .. after
    end
  end
  return rows
end

--- One picture of many.
-- @tparam table images a list; pictures of different sizes are centred in equal cells
-- @tparam[opt] table how columns (as square as possible), gap (8 pixels), background ("#ffffff"), size (longest side
--   of each picture; larger ones are made smaller)
-- @return image, or nil, message, error
return function(images, how)
  how = how or {}
  if #images == 0 then
    return failure.say("misuse", "a sheet needs at least one image")
  end
  local columns = math.min(#images, how.columns or math.ceil(math.sqrt(#images)))
  local gap, background = how.gap or 8, colour(how.background)
  local shown, width, height = {}, 0, 0
  for i, image in ipairs(images) do
    local small, message, err = image:thumbnail(how.size or math.huge)
    if not small then
      return nil, message, err
    end
    shown[i] = small
    width, height = math.max(width, small.width), math.max(height, small.height)
  end
  local total = columns * (width + gap) + gap
  local line, parts = background:rep(total), {}
  local side = background:rep(gap)
  local rows = math.ceil(#images / columns)
  for row = 1, rows do
    parts[#parts + 1] = line:rep(gap)
    local cells = {}
    for column = 1, columns do
      local image = shown[(row - 1) * columns + column]
      if image then
        local lines, message, err = cell(image, width, height, background)
        if not lines then
          return nil, message, err
        end
        cells[column] = lines
      end
    end
    local empty = background:rep(width)
    for y = 1, height do
      for column = 1, columns do
        parts[#parts + 1] = side
        parts[#parts + 1] = cells[column] and cells[column][y] or empty
      end
      parts[#parts + 1] = side
    end
  end
  parts[#parts + 1] = line:rep(gap)
  return core.image(table.concat(parts), total, rows * (height + gap) + gap, "rgb")
end
