-- Opens a stream, which is made if it does not exist, and reads what is behind a place in it.
-- Returns its last ID, the entries, and for presence the members with their connections.
--
-- KEYS   the stream, the key of its channel
-- ARGV   new epoch, milliseconds to keep, ID, nonce of the entry with this ID, lease prefix,
--        nonce, entries and bytes of the stream, milliseconds to keep it without entries
--
-- An ID of '-' stands for the beginning; so does one of another epoch. If another entry has the ID
-- now, or none has it yet, or its epoch is later, then this Redis has lost what a reader has seen.
-- The stream goes on with another epoch, so that no ID stands for two entries.

local key, after = KEYS[1], ARGV[3]
local last = open_stream(key, ARGV[1])
expire(key, ARGV[2], ARGV[9])
local has_lost = false
if epoch_of(last) == epoch_of(after) then
  local now = redis.call('XRANGE', key, after, after)[1]
  local other = now and ARGV[4] ~= '' and field(now, 'n') ~= ARGV[4]
  has_lost = other or number_of(last) < number_of(after)
elseif after ~= '-' then
  has_lost = tonumber(epoch_of(last)) < tonumber(epoch_of(after))
  after = '-'
end
if has_lost then
  last = ARGV[1] .. '-0'
  redis.call('XSETID', key, last)
end
local members = {}
if key ~= KEYS[2] then
  remove_dead({key = KEYS[2], new_epoch = ARGV[1], nonce = ARGV[6], told = 0,
    entries = ARGV[7], bytes = ARGV[8]}, ARGV[5])
  last = last_id(key)
  members = redis.call('HGETALL', KEYS[2] .. '@members')
end
return {last, redis.call('XRANGE', key, after == '-' and '-' or '(' .. after, '+'), members}
