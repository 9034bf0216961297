#!/usr/bin/ruby
# Publishes measurements, a line each: device, number of the measurement, degrees.
#
# A batch is published until there is an answer. The number is the message's key, so that
# one whose answer was lost is not stored twice.

require 'json'
require 'pg'

TEXTS = PG::TextEncoder::Array.new(elements_type: PG::TextEncoder::String.new)
connection = nil

$stdin.each_line(chomp: true).each_slice(100) do |lines|
  devices, numbers, degrees = lines.map(&:split).transpose
  payloads = degrees.map { |celsius| { celsius: celsius.to_f }.to_json }
  begin
    connection ||= PG.connect
    connection.exec_params("SELECT iotmq.publish_batch('telemetry', $1, $2, message_keys => $3)",
                           [devices, payloads, numbers].map { |texts| TEXTS.encode(texts) })
  rescue PG::ConnectionBad, PG::UnableToSend, PG::AdminShutdown => e
    warn e.message
    connection = nil
    sleep 1
    retry
  end
end
