#!/usr/bin/ruby
# Stores the readings of a topic, each exactly once: in one transaction with its
# acknowledgement. SIGTERM ends it after the batch at hand.

require 'json'
require 'pg'

LEASE = 60 # seconds
TEXTS = PG::TextEncoder::Array.new(elements_type: PG::TextEncoder::String.new)
$stopping = false
trap('TERM') { $stopping = true }

# The reading in a message. What is raised here is the reason of its failure.
def work(message)
  raise "not a reading: #{PG::Connection.unescape_bytea(message['body'])}" if message['body']

  payload = JSON.parse(message['payload'])
  sleep(payload['pause'] || 0) # stands for what takes long
  raise "not plausible: #{payload['celsius']}" if payload['celsius'] > 1000

  payload['celsius']
end

def consume(connection)
  until $stopping
    messages = connection.exec_params(<<~SQL, ["#{LEASE} s"]).to_a
      SELECT lease_id, zone, msg_offset, device_id, payload, body
      FROM iotmq.consume('telemetry', 'analytics', 100, invisible_for => $1, wait => '5 s')
    SQL
    begin
      handle(connection, messages) unless messages.empty?
    rescue PG::ObjectNotInPrerequisiteState # 55000: the lease is over
      warn 'others have these messages, or they come again'
    end
  end
end

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

def handle(connection, messages)
  lease_id = messages.first['lease_id']
  done = []
  failed = []
  extended = now
  messages.each do |message|
    begin
      done << message.merge('celsius' => work(message))
    rescue StandardError => e
      failed << message.merge('reason' => e.message)
    end
    next if now < extended + LEASE / 3.0

    connection.exec_params('SELECT iotmq.extend($1, $2)', [lease_id, "#{LEASE} s"])
    extended = now
  end
  store(connection, lease_id, done, failed)
end

def store(connection, lease_id, done, failed)
  all = ->(messages, name) { TEXTS.encode(messages.map { |message| message[name] }) }
  reasons = failed.map { |message| message['reason'].dup.force_encoding('UTF-8').scrub('?').delete("\0") } # as text has to be
  connection.transaction do
    connection.exec_params(<<~SQL, %w[zone msg_offset device_id celsius].map { |name| all.call(done, name) })
      INSERT INTO reading (zone, msg_offset, device_id, celsius)
      SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::numeric[])
    SQL
    connection.exec_params('SELECT iotmq.settle($1, $2, nacks => $3, reasons => $4)',
                           [lease_id, all.call(done, 'msg_offset'), all.call(failed, 'msg_offset'), TEXTS.encode(reasons)])
  end
rescue PG::DataException, PG::IntegrityConstraintViolation => e
  if done.size + failed.size == 1
    store(connection, lease_id, [], [done.first.merge('reason' => e.message)])
  else # which of them is it?
    done.each { |one| store(connection, lease_id, [one], []) }
    failed.each { |one| store(connection, lease_id, [], [one]) }
  end
end

until $stopping
  begin
    connection = PG.connect
    consume(connection)
    connection.close
  rescue PG::Error => e
    warn e.message
    sleep 1 # then with a new connection
  end
end
