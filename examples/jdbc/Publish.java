// Publishes measurements, a line each: device, number of the measurement, degrees.
//
// A batch is published until there is an answer. The number is the message's key, so that
// one whose answer was lost is not stored twice.
//
//     java -cp postgresql.jar Publish.java 'jdbc:postgresql://host/database?user=name'

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;

class Publish {
    static Connection connection;

    static void publish(String url, List<String[]> measurements) throws SQLException {
        if (connection == null) connection = DriverManager.getConnection(url);
        try (var statement = connection.prepareStatement(
                "SELECT iotmq.publish_batch('telemetry', ?, ?::jsonb[], message_keys => ?)")) {
            statement.setArray(1, connection.createArrayOf("text", measurements.stream().map(m -> m[0]).toArray()));
            statement.setArray(2, connection.createArrayOf("text",
                measurements.stream().map(m -> "{\"celsius\": " + m[2] + "}").toArray()));
            statement.setArray(3, connection.createArrayOf("text", measurements.stream().map(m -> m[1]).toArray()));
            statement.execute();
        }
    }

    static void publishUntilAnswered(String url, List<String[]> measurements) throws Exception {
        while (true) {
            try {
                publish(url, measurements);
                return;
            } catch (SQLException e) {
                if (connection != null && connection.isValid(5)) throw e;      // not the connection
                System.err.println(e.getMessage());
                connection = null;
                Thread.sleep(1000);
            }
        }
    }

    public static void main(String[] args) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in));
        var measurements = new ArrayList<String[]>();
        for (String line; (line = input.readLine()) != null; ) {
            measurements.add(line.split(" "));
            if (measurements.size() == 100) {
                publishUntilAnswered(args[0], measurements);
                measurements.clear();
            }
        }
        if (!measurements.isEmpty()) publishUntilAnswered(args[0], measurements);
    }
}
