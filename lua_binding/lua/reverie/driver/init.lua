-- Drivers let a client wait without knowing how its program waits.  A driver is a table with one method,
-- wait(client, seconds): return when something may have happened, having called client:dispatch(); seconds may be
-- nil.  Optional methods: start(client) after a submit, stop(client) when the client closes, go and run.
local drivers = {}

local function in_nginx()
  local ngx = rawget(_G, "ngx")
  return type(ngx) == "table" and ngx.get_phase ~= nil and ngx.sleep ~= nil
end

--- The driver for a name, a table with a wait method, or a wait function; nil chooses by where we run.
function drivers.choose(wish)
  if wish == nil then
    wish = in_nginx() and "ngx" or "block"
  end
  if type(wish) == "function" then
    return { wait = function(_, client, seconds) return wish(client, seconds) end }
  elseif type(wish) == "table" then
    if wish.new then
      return wish.new()
    end
    -- A plain { wait = function(client, seconds) end } of the user.
    return { wait = function(_, client, seconds) return wish.wait(client, seconds) end }
  end
  return require("reverie.driver." .. wish).new()
end

return drivers
