-- The ledger's transactions. ARGV: the name of one, and its arguments as JSON; moments and durations are milliseconds,
-- by the server's clock. A row is a hash in which an empty text stands for nothing.
local PREFIX = 'cueapi-tasks:'
local NUMBERS = {'lease_until', 'starts', 'attempt', 'max_attempts', 'retry_at', 'finished_at', 'reported_at'}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function key_of(id)
  return PREFIX .. 'execution:' .. id
end

local function load(id)
  local flat = redis.call('HGETALL', key_of(id))
  if #flat == 0 then return nil end
  local row = {}
  for i = 1, #flat, 2 do row[flat[i]] = flat[i + 1] end
  for _, name in ipairs(NUMBERS) do row[name] = tonumber(row[name]) end
  return row
end

local function blank(entry)
  return {
    id = entry.id, scope = entry.scope, task = entry.task, cue_id = entry.cue_id, transport = entry.transport,
    state = 'waiting', owner = '', lease_until = 0, starts = 0, attempt = entry.attempt, retry_at = 0, crashed = '',
    decision = '', delivery = '', answer_status = '', answer = '', outcome = '',
    created_at = now, finished_at = 0, reported_at = 0, accepted = '',
  }
end

-- A row is in a sorted set, by a moment, for as long as a condition holds.
local function list(name, row, condition, moment)
  if condition then
    redis.call('ZADD', PREFIX .. name, moment, row.id)
  else
    redis.call('ZREM', PREFIX .. name, row.id)
  end
end

local function kept_list(scope, transport) return 'kept:' .. scope .. ':' .. transport end
local function running_list(scope, task) return 'running:' .. scope .. ':' .. task end
local function due_list(scope) return 'due:' .. scope end

-- Executions by webhook in their last attempt: if their process dies, no delivery comes that would show it.
local function last_list(scope) return 'last:' .. scope end
local function is_last(row)
  return row.state == 'running' and row.transport == 'webhook' and row.attempt >= (row.max_attempts or math.huge)
end

local function list_everywhere(row)
  list(last_list(row.scope), row, is_last(row), row.lease_until)
  list(kept_list(row.scope, row.transport), row, row.delivery ~= '' and row.state ~= 'finished', row.lease_until)
  list(running_list(row.scope, row.task), row, row.state == 'running' and row.decision == 'run', row.lease_until)
  list(due_list(row.scope), row, row.state == 'finished' and row.reported_at == 0, row.finished_at)
end

local function save(row)
  local flat = {}
  for name, value in pairs(row) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call('HSET', key_of(row.id), unpack(flat))
  list_everywhere(row)
end

local function owned(a)
  local row = load(a.id)
  return row and row.owner == a.token and row or nil
end

local function claimed(row)
  return {'claimed', row.owner, row.starts, row.attempt, row.decision, row.crashed}
end

local function other_runs(entry)
  local running = PREFIX .. running_list(entry.scope, entry.task)
  redis.call('ZREMRANGEBYSCORE', running, '-inf', now)
  for _, id in ipairs(redis.call('ZRANGE', running, 0, 1)) do
    if id ~= entry.id then return true end
  end
  return false
end

local function decide(entry)
  if entry.decision == 'run' and entry.exclusive and other_runs(entry) then return 'overlap' end
  return entry.decision or ''
end

local function start_row(row, entry)
  if row.decision == '' then row.decision = decide(entry) end
  row.state, row.starts, row.retry_at = 'running', row.starts + 1, 0
  row.delivery = entry.delivery or row.delivery
  local answer = claimed(row)
  row.crashed = ''
  save(row)
  return answer
end

-- Hold the execution, unless it is finished or held; the row is saved by whoever asks.
local function take(entry)
  local row = load(entry.id) or blank(entry)
  row.attempt = math.max(row.attempt, entry.attempt)
  if row.state == 'finished' then return row, {'finished', row.answer_status, row.answer} end
  if row.owner ~= '' and row.lease_until > now then return row, {'held'} end
  if row.state == 'running' then row.crashed = 'yes' end
  row.state, row.owner, row.lease_until = 'waiting', entry.token, now + entry.lease
  if row.delivery == '' then row.delivery = entry.delivery or '' end
  row.max_attempts = entry.max_attempts
  return row, nil
end

local run = {}

function run.claim(entry)
  local row, refusal = take(entry)
  if not refusal then return start_row(row, entry) end
  save(row)
  return refusal
end

function run.hold(entry)
  local row, refusal = take(entry)
  save(row)
  return refusal or claimed(row)
end

function run.start(entry)
  local row = owned(entry)
  return row and start_row(row, entry)
end

function run.postpone(a)
  local row = owned(a)
  if not row then return 0 end
  row.state, row.attempt, row.retry_at = 'waiting', math.max(row.attempt, a.attempt), now + a.delay
  save(row)
  return 1
end

function run.renew(a)
  for _, each in ipairs(a.tokens) do
    local row = owned(each)
    if row then
      row.lease_until = now + a.lease
      save(row)
    end
  end
end

function run.forget(a)
  local row = owned(a)
  if row then
    row.state, row.delivery = 'waiting', ''
    list_everywhere(row)
    redis.call('DEL', key_of(a.id))
  end
end

function run.release(a)
  local row = owned(a)
  if not row or row.attempt >= a.max_attempts then return 0 end
  row.state, row.owner, row.lease_until = 'waiting', '', now
  save(row)
  return 1
end

function run.finish(a)
  local row = owned(a)
  if not row then return load(a.id) and 0 or 1 end
  row.state, row.owner, row.finished_at = 'finished', '', now
  row.answer_status, row.answer, row.outcome = a.status, a.answer, a.outcome
  save(row)
  return 1
end

function run.reported(a)
  local row = load(a.id)
  if row and row.state == 'finished' and row.reported_at == 0 then
    row.reported_at, row.accepted = now, a.accepted
    save(row)
    redis.call('PEXPIRE', key_of(a.id), a.keep)
  end
end

-- What was removed by hand is dropped from the list as it is met.
local function rows_of(name, ids)
  local rows = {}
  for _, id in ipairs(ids) do
    local row = load(id)
    if row then rows[#rows + 1] = row else redis.call('ZREM', PREFIX .. name, id) end
  end
  return rows
end

function run.lapsed(a)
  local name, found = kept_list(a.scope, a.transport), {}
  local ids = redis.call('ZRANGEBYSCORE', PREFIX .. name, '-inf', now, 'LIMIT', 0, a.limit)
  for _, row in ipairs(rows_of(name, ids)) do
    found[#found + 1] = {row.id, row.delivery, row.attempt, math.max(0, row.retry_at - now)}
  end
  return found
end

function run.died(a)
  local name, found = last_list(a.scope), {}
  local ids = redis.call('ZRANGEBYSCORE', PREFIX .. name, '-inf', '(' .. (now - a.since), 'LIMIT', 0, a.limit)
  for _, row in ipairs(rows_of(name, ids)) do found[#found + 1] = {row.id, row.owner} end
  return found
end

function run.unreported(a)
  local name, found = due_list(a.scope), {}
  for _, row in ipairs(rows_of(name, redis.call('ZRANGE', PREFIX .. name, 0, a.limit - 1))) do
    found[#found + 1] = {row.id, row.task, row.outcome, now - row.finished_at}
  end
  return found
end

function run.purge(a)
  local due = PREFIX .. due_list(a.scope)
  local ids = redis.call('ZRANGEBYSCORE', due, '-inf', '(' .. (now - a.age), 'LIMIT', 0, a.limit)
  for _, id in ipairs(ids) do
    redis.call('DEL', key_of(id))
    redis.call('ZREM', due, id)
  end
  return #ids
end

return run[ARGV[1]](cjson.decode(ARGV[2]))
