// Stores the readings of a topic, each exactly once: in one transaction with its
// acknowledgement. SIGTERM ends it after the batch at hand.
//
//     java -cp postgresql.jar Consume.java 'jdbc:postgresql://host/database?user=name'

import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;

class Consume {
    static final int LEASE = 60;        // seconds
    static volatile boolean stopping;

    static class Message {
        long leaseId, offset;
        String zone, device, celsius, pause;
        byte[] body;
        BigDecimal result;              // what work made of it
        String reason;                  // or why it failed
    }

    /** The reading in a message. What is thrown here is the reason of its failure. */
    static BigDecimal work(Message message) throws Exception {
        if (message.body != null) {
            throw new Exception("not a reading: " + new String(message.body, StandardCharsets.ISO_8859_1));
        }
        var celsius = new BigDecimal(message.celsius);
        if (message.pause != null) Thread.sleep((long) (1000 * Double.parseDouble(message.pause)));     // stands for what takes long
        if (celsius.intValue() > 1000) throw new Exception("not plausible: " + celsius);
        return celsius;
    }

    static List<Message> consume(Connection connection) throws SQLException {
        var messages = new ArrayList<Message>();
        try (var statement = connection.prepareStatement(
                "SELECT lease_id, zone, msg_offset, device_id, payload->>'celsius', payload->>'pause', body"
                + " FROM iotmq.consume('telemetry', 'analytics', 100, invisible_for => ?::interval, wait => '5 s')")) {
            statement.setString(1, LEASE + " s");
            for (var rows = statement.executeQuery(); rows.next(); ) {
                var message = new Message();
                message.leaseId = rows.getLong(1);
                message.zone = rows.getString(2);
                message.offset = rows.getLong(3);
                message.device = rows.getString(4);
                message.celsius = rows.getString(5);
                message.pause = rows.getString(6);
                message.body = rows.getBytes(7);
                messages.add(message);
            }
        }
        return messages;
    }

    static void handle(Connection connection, List<Message> messages) throws SQLException {
        var done = new ArrayList<Message>();
        var failed = new ArrayList<Message>();
        long extended = System.nanoTime();
        for (var message : messages) {
            try {
                message.result = work(message);
                done.add(message);
            } catch (Exception e) {
                message.reason = e.toString();
                failed.add(message);
            }
            if (System.nanoTime() - extended > LEASE * 1_000_000_000L / 3) {
                try (var statement = connection.prepareStatement("SELECT iotmq.extend(?, ?::interval)")) {
                    statement.setLong(1, message.leaseId);
                    statement.setString(2, LEASE + " s");
                    statement.execute();
                }
                extended = System.nanoTime();
            }
        }
        store(connection, messages.get(0).leaseId, done, failed);
    }

    static void store(Connection connection, long leaseId, List<Message> done, List<Message> failed) throws SQLException {
        try {
            connection.setAutoCommit(false);
            try {
                storeAll(connection, leaseId, done, failed);
                connection.commit();
            } catch (SQLException e) {
                connection.rollback();
                throw e;
            } finally {
                connection.setAutoCommit(true);         // consume is a transaction of its own
            }
        } catch (SQLException e) {
            if (e.getSQLState() == null || !e.getSQLState().matches("2[23].*")) throw e;
            if (done.size() + failed.size() == 1) {
                done.get(0).reason = e.getMessage();
                store(connection, leaseId, List.of(), done);
                return;
            }
            for (var one : done) store(connection, leaseId, List.of(one), List.of());       // which of them is it?
            for (var one : failed) store(connection, leaseId, List.of(), List.of(one));
        }
    }

    static void storeAll(Connection connection, long leaseId, List<Message> done, List<Message> failed) throws SQLException {
        try (var statement = connection.prepareStatement(
                "INSERT INTO reading (zone, msg_offset, device_id, celsius) VALUES (?, ?, ?, ?)")) {
            for (var message : done) {
                statement.setString(1, message.zone);
                statement.setLong(2, message.offset);
                statement.setString(3, message.device);
                statement.setBigDecimal(4, message.result);
                statement.addBatch();
            }
            statement.executeBatch();
        }
        try (var statement = connection.prepareStatement("SELECT iotmq.settle(?, ?, nacks => ?, reasons => ?)")) {
            statement.setLong(1, leaseId);
            statement.setArray(2, connection.createArrayOf("bigint", done.stream().map(m -> m.offset).toArray()));
            statement.setArray(3, connection.createArrayOf("bigint", failed.stream().map(m -> m.offset).toArray()));
            statement.setArray(4, connection.createArrayOf("text",
                failed.stream().map(m -> m.reason.replace("\0", "")).toArray()));           // PostgreSQL's text has no NUL
            statement.execute();
        }
    }

    public static void main(String[] args) {
        var worker = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopping = true;
            try {
                worker.join();
            } catch (InterruptedException e) {
                worker.interrupt();
            }
        }));
        while (!stopping) {
            try (var connection = DriverManager.getConnection(args[0])) {
                while (!stopping) {
                    var messages = consume(connection);
                    try {
                        if (!messages.isEmpty()) handle(connection, messages);
                    } catch (SQLException e) {
                        if (!"55000".equals(e.getSQLState())) throw e;          // the lease is over
                        System.err.println("others have these messages, or they come again");
                    }
                }
            } catch (SQLException e) {
                System.err.println(e.getMessage());
                pause();        // then with a new connection
            }
        }
    }

    static void pause() {
        try {
            Thread.sleep(1000);
        } catch (InterruptedException e) {
            stopping = true;
        }
    }
}
