-- Failures: always nil, a message for people, an error object for programs.  Error objects come from the C half, so
-- that codes, HTTP statuses and what may be retried are the core's own.
local core = require "reverie.core"

local failure = {}

--- Makes an error object; `more` are further fields.
function failure.new(code, message, more)
  local err = core.error(code, message)
  for key, value in pairs(more or {}) do
    err[key] = value
  end
  return err
end

--- What a function returns for an error object.
function failure.of(err)
  return nil, err.message, err
end

--- The same from a code and a message.
function failure.say(code, message, more)
  return failure.of(failure.new(code, message, more))
end

--- One error for all issues of a request.
function failure.from_issues(issues)
  local messages, first = {}, nil
  local only_models = true
  for _, issue in ipairs(issues) do
    if not issue.warning then
      first = first or issue
      messages[#messages + 1] = issue.message
      only_models = only_models and issue.code == "modelNotFound"
    end
  end
  local text = table.concat(messages, "; ")
  if #messages > 1 then
    text = #messages .. " problems: " .. text
  end
  return failure.new(only_models and "notFound" or "validation", text,
    { issues = issues, parameter = first.parameter, wire = first.code })
end

return failure
