"""The scripts that Redis runs: each step that must be atomic is one script."""

from __future__ import annotations

from typing import Final

# A lever's field is "VERSION AT UNTIL JSON"; the server sets what stands before the JSON.
FLIP: Final = """
local there = redis.call('HGET', KEYS[1], ARGV[1])
local version = 0
if there == ARGV[8] then there = false end
if there then
  version = tonumber(string.match(there, '^(%d+) [%d.]+ %S+ {') or '0')
  if ARGV[3] ~= '' and string.find(there, ARGV[3], 1, true) then return {'made', there} end
end
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= version then
  return {'conflict', version > 0 and there or ''}
end
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local last = tonumber(redis.call('HGET', KEYS[2], 'version') or '0')
if not (last and last >= 0 and last < 1e15) then last = 0 end
local till = '-'
if ARGV[4] ~= '' then till = string.format('%.3f', ms / 1000 + tonumber(ARGV[4])) end
local new = math.max(last + 1, ms)
if redis.call('HSETNX', KEYS[2], 'incarnation', ARGV[6]) == 1 then
  redis.call('HSET', KEYS[2], 'born', time[1])
end
local text = string.format('%.0f %.3f %s %s', new, ms / 1000, till, ARGV[5])
redis.call('HSET', KEYS[2], 'version', string.format('%.0f', new))
redis.call('HSET', KEYS[1], ARGV[1], text)
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[7], '*', 'lever', ARGV[1], 'flip', text)
redis.call('PUBLISH', KEYS[4], string.format('%.0f', new))
return {'made', text}
"""
# Several flips at once, all or none: each is a lever, its version, the request, the JSON,
# and an unreadable row, which counts as no record.
FLIP_ALL: Final = """
local made = {}
for i = 4, #ARGV, 5 do
  local there = redis.call('HGET', KEYS[1], ARGV[i])
  if there == ARGV[i + 4] then there = false end
  if there and string.find(there, ARGV[i + 2], 1, true) then
    made[#made + 1] = there
  else
    local version = there and tonumber(string.match(there, '^(%d+) [%d.]+ %S+ {') or '0') or 0
    if tonumber(ARGV[i + 1]) ~= version then
      return {'conflict', version > 0 and there or '', ARGV[i]}
    end
  end
end
if #made > 0 then return {'made', unpack(made)} end
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local last = tonumber(redis.call('HGET', KEYS[2], 'version') or '0')
if not (last and last >= 0 and last < 1e15) then last = 0 end
local till = '-'
if ARGV[3] ~= '' then till = string.format('%.3f', ms / 1000 + tonumber(ARGV[3])) end
if redis.call('HSETNX', KEYS[2], 'incarnation', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[2], 'born', time[1])
end
for i = 4, #ARGV, 5 do
  last = math.max(last + 1, ms)
  local text = string.format('%.0f %.3f %s %s', last, ms / 1000, till, ARGV[i + 3])
  redis.call('HSET', KEYS[1], ARGV[i], text)
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'lever', ARGV[i], 'flip', text)
  made[#made + 1] = text
end
redis.call('HSET', KEYS[2], 'version', string.format('%.0f', last))
redis.call('PUBLISH', KEYS[4], string.format('%.0f', last))
return {'made', unpack(made)}
"""
RESTORE: Final = """
if redis.call('HSETNX', KEYS[2], 'incarnation', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[2], 'born', redis.call('TIME')[1])
end
local last = tonumber(redis.call('HGET', KEYS[2], 'version') or '0')
if not (last and last >= 0 and last < 1e15) then last = 0 end
local written = 0
for i = 3, #ARGV, 3 do
  local there = redis.call('HGET', KEYS[1], ARGV[i])
  local new = tonumber(ARGV[i + 1])
  if not there or tonumber(string.match(there, '^(%d+) [%d.]+ %S+ {') or '0') < new then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*',
               'lever', ARGV[i], 'flip', ARGV[i + 2])
    last = math.max(last, new)
    written = written + 1
  end
end
if written > 0 then
  redis.call('HSET', KEYS[2], 'version', string.format('%.0f', last))
  redis.call('PUBLISH', KEYS[4], string.format('%.0f', last))
end
return written
"""
READ: Final = """
local time = redis.call('TIME')
local life = redis.call('HGET', KEYS[2], 'incarnation') or ''
local last = redis.call('HGET', KEYS[2], 'version') or '0'
local born = redis.call('HGET', KEYS[2], 'born') or '0'
if life == ARGV[1] and last == ARGV[2] then return {time[1], time[2], life, last, born} end
return {time[1], time[2], life, last, born, redis.call('HGETALL', KEYS[1])}
"""
BEAT: Final = """
local time = redis.call('TIME')
if redis.call('HSETNX', KEYS[2], 'incarnation', ARGV[4]) == 1 then
  redis.call('HSET', KEYS[2], 'born', time[1])
end
redis.call('HSET', KEYS[5], ARGV[1], time[1] .. '.' .. string.format('%06d', time[2]) .. ' '
           .. ARGV[2])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[6], ARGV[1], ARGV[3]) end
return redis.call('HEXISTS', KEYS[6], ARGV[1])
"""
