--- Images: pictures and the facts about them.
-- Facts: width, height, channels, seed, uuid, url, cost, flagged, recipe.  Calling an image, `image(x, y)`, gives the
-- parts of one pixel, counted from 0.  An image never changes.
-- @classmod reverie.image

--- The file as a string.
-- @function image:bytes
-- @tparam[opt="png"] string format "png", "jpg" or "webp"
-- @param[opt=95] quality 20 to 99, or a table with quality
-- @return a string, or nil, message, error

--- The pixels, row by row without gaps.
-- @function image:pixels
-- @tparam[opt] string layout "gray", "rgb" or "rgba"; the picture's own otherwise
-- @return a string, width, height; or nil, message, error

--- The pixels for LuaJIT's FFI, valid as long as the image.
-- @function image:pointer
-- @return light userdata, bytes, channels

--- Writes a file, whole or not at all.
-- @function image:save
-- @tparam string path its extension is the format
-- @tparam[opt] table how quality, format
-- @return true, or nil, message, error

--- A smaller picture of the same shape.
-- @function image:thumbnail
-- @tparam number size the longer side
-- @return image, or nil, message, error

--- Frees the memory early; twice is fine.
-- @function image:close
