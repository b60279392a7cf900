-- Functions that all scripts share. This file is put before each of them.
--
-- A stream holds the entries of one channel. Its IDs are EPOCH-NUMBER: Redis counts the numbers from
-- 1 without a hole, so a missing number is a lost entry. A stream that was deleted begins again
-- with another epoch. Fields of an entry:
--   d  data            e  event type, "" for none
--   s  encoded size    b  the sizes of all entries before it, together
--   n  a text that no other entry has

local function last_id(key)
  local info = redis.call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end

local function epoch_of(id) return string.match(id, '^(%d+)-') end
local function number_of(id) return tonumber(string.match(id, '-(%d+)$')) end

-- Fields come as one array, in the order in which they were added.
local function field(entry, name)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == name then return entry[2][i + 1] end
  end
end

-- 0 for a field of an entry that no script of ours has written.
local function number_in(entry, name) return tonumber(field(entry, name) or '') or 0 end

-- Makes a stream without entries if there is none. Returns its last ID.
local function open_stream(key, new_epoch)
  if redis.call('EXISTS', key) == 0 then
    local id = new_epoch .. '-0'
    redis.call('XADD', key, id, 'd', '')
    redis.call('XDEL', key, id)
  end
  return last_id(key)
end

-- Keeps a stream for so long, or as long as this if it never had an entry.
local function expire(key, milliseconds, empty_milliseconds)
  if redis.call('EXISTS', key) == 1 then
    local is_empty = redis.call('XLEN', key) == 0 and number_of(last_id(key)) == 0
    redis.call('PEXPIRE', key, is_empty and empty_milliseconds or milliseconds)
  end
end

-- What has to be known of a stream to append to it.
local function writer(key, new_epoch)
  local id = open_stream(key, new_epoch)
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local w = {key = key, epoch = epoch_of(id), before = 0, closed = false}
  if last then
    w.before = number_in(last, 'b') + number_in(last, 's')
    w.closed = field(last, 'e') == 'end'
  end
  return w
end

-- Appends an entry, and trims the stream to this many entries and bytes. Returns the ID; '' if the
-- channel is closed.
local function append(w, data, event, size, nonce, entries, bytes)
  if w.closed then return '' end
  local id = redis.call('XADD', w.key, 'MAXLEN', entries, w.epoch .. '-*',
    'd', data, 'e', event, 's', size, 'b', string.format('%.0f', w.before), 'n', nonce)
  w.before = w.before + tonumber(size)
  w.closed = event == 'end'
  if w.before > tonumber(bytes) then
    local first = redis.call('XRANGE', w.key, '-', '+', 'COUNT', 1)[1]
    while w.before - number_in(first, 'b') > tonumber(bytes) do
      redis.call('XTRIM', w.key, 'MAXLEN', redis.call('XLEN', w.key) - 1)
      first = redis.call('XRANGE', w.key, '-', '+', 'COUNT', 1)[1]
    end
  end
  return id
end

-- Presence. Keys of a channel:
--   KEY@presence         the stream of members that join and leave, once it was asked for
--   KEY@members          connections of each member; '' for all of them
--   KEY@members:PROCESS  those of one process
--   KEY@processes        the processes that have any
-- A member is its name as JSON, or null.

local function tell(p, event, member, here, count)
  if p.writer == nil then
    p.writer = redis.call('EXISTS', p.key .. '@presence') == 1
      and writer(p.key .. '@presence', p.new_epoch)
  end
  if p.writer then
    local data = string.format('{"name": %s, "here": %s, "count": %d}',
      member, member == 'null' and 'null' or here, count)
    p.told = p.told + 1
    append(p.writer, data, event, #data, p.nonce .. ':' .. p.told, p.entries, p.bytes)
  end
end

-- A member has this many connections more, in one of the processes.
local function change(p, member, by)
  if by == 0 then return end
  local here = redis.call('HINCRBY', p.key .. '@members', member, by)
  if here <= 0 then redis.call('HDEL', p.key .. '@members', member) end
  local count = redis.call('HINCRBY', p.key .. '@members', '', by)
  if count <= 0 then redis.call('HDEL', p.key .. '@members', '') end
  tell(p, by > 0 and 'join' or 'leave', member, math.max(here, 0), math.max(count, 0))
end

-- A process has left, or its lease has ended.
local function remove_process(p, process)
  local own = p.key .. '@members:' .. process
  local had = redis.call('HGETALL', own)
  for i = 1, #had, 2 do change(p, had[i], -tonumber(had[i + 1])) end
  redis.call('DEL', own)
  redis.call('SREM', p.key .. '@processes', process)
end

local function remove_dead(p, lease)
  for _, process in ipairs(redis.call('SMEMBERS', p.key .. '@processes')) do
    if redis.call('EXISTS', lease .. process) == 0 then remove_process(p, process) end
  end
end

local function keep(key, milliseconds, empty_milliseconds)
  expire(key, milliseconds, empty_milliseconds)
  expire(key .. '@presence', milliseconds, empty_milliseconds)
  redis.call('PEXPIRE', key .. '@members', milliseconds)
  redis.call('PEXPIRE', key .. '@processes', milliseconds)
end
