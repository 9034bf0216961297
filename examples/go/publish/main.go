// Publishes measurements, a line each: device, number of the measurement, degrees.
//
// A batch is published until there is an answer. The number is the message's key, so that
// one whose answer was lost is not stored twice.
package main

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/lib/pq"
)

func publish(db *sql.DB, lines []string) error {
	var devices, numbers, payloads []string
	for _, line := range lines {
		words := strings.Fields(line)
		devices, numbers = append(devices, words[0]), append(numbers, words[1])
		payloads = append(payloads, fmt.Sprintf(`{"celsius": %s}`, words[2]))
	}
	_, err := db.Exec("SELECT iotmq.publish_batch('telemetry', $1, $2, message_keys => $3)",
		pq.Array(devices), pq.Array(payloads), pq.Array(numbers))
	return err
}

func publishUntilAnswered(db *sql.DB, lines []string) {
	for {
		err := publish(db, lines)
		if err == nil {
			return
		}
		var refused *pq.Error
		if errors.As(err, &refused) && refused.Code.Class() != "57" && refused.Code.Class() != "08" {
			log.Fatal(err) // not the connection
		}
		log.Print(err)
		time.Sleep(time.Second) // the pool makes another connection then
	}
}

func main() {
	db, err := sql.Open("postgres", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	var lines []string
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		if lines = append(lines, input.Text()); len(lines) == 100 {
			publishUntilAnswered(db, lines)
			lines = nil
		}
	}
	if len(lines) > 0 {
		publishUntilAnswered(db, lines)
	}
}
