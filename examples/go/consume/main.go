// Stores the readings of a topic, each exactly once: in one transaction with its
// acknowledgement. SIGTERM ends it after the batch at hand.
package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/lib/pq"
)

const lease = 60 // seconds

var leaseText = fmt.Sprintf("%d s", lease)

type message struct {
	leaseID, offset int64
	zone, device    string
	payload, body   []byte
	celsius         float64 // what work made of it
	reason          string  // or why it failed
}

// work finds the reading in a message. The error is the reason of its failure.
func work(m message) (float64, error) {
	if m.body != nil {
		return 0, fmt.Errorf("not a reading: %s", m.body)
	}
	var reading struct{ Celsius, Pause float64 }
	if err := json.Unmarshal(m.payload, &reading); err != nil {
		return 0, err
	}
	time.Sleep(time.Duration(reading.Pause * float64(time.Second))) // stands for what takes long
	if reading.Celsius > 1000 {
		return 0, fmt.Errorf("not plausible: %v", reading.Celsius)
	}
	return reading.Celsius, nil
}

func consume(db *sql.DB) ([]message, error) {
	rows, err := db.Query(`
		SELECT lease_id, zone, msg_offset, device_id, payload, body
		FROM iotmq.consume('telemetry', 'analytics', 100, invisible_for => $1, wait => '5 s')`, leaseText)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var messages []message
	for rows.Next() {
		var m message
		if err := rows.Scan(&m.leaseID, &m.zone, &m.offset, &m.device, &m.payload, &m.body); err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	return messages, rows.Err()
}

func handle(db *sql.DB, messages []message) error {
	var done, failed []message
	extended := time.Now()
	for _, m := range messages {
		celsius, err := work(m)
		if err != nil {
			m.reason = err.Error()
			failed = append(failed, m)
		} else {
			m.celsius = celsius
			done = append(done, m)
		}
		if time.Since(extended) > lease*time.Second/3 {
			if _, err := db.Exec("SELECT iotmq.extend($1, $2)", m.leaseID, leaseText); err != nil {
				return err
			}
			extended = time.Now()
		}
	}
	return store(db, messages[0].leaseID, done, failed)
}

func store(db *sql.DB, leaseID int64, done, failed []message) error {
	err := storeAll(db, leaseID, done, failed)
	var refused *pq.Error
	if !errors.As(err, &refused) || refused.Code.Class() != "22" && refused.Code.Class() != "23" {
		return err
	}
	if len(done)+len(failed) == 1 {
		done[0].reason = err.Error()
		return storeAll(db, leaseID, nil, done)
	}
	for i := range done { // which of them is it?
		if err := store(db, leaseID, done[i:i+1], nil); err != nil {
			return err
		}
	}
	for i := range failed {
		if err := store(db, leaseID, nil, failed[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// storeAll is one transaction.
func storeAll(db *sql.DB, leaseID int64, done, failed []message) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	acks, nacks, reasons := []int64{}, []int64{}, []string{} // not nil, which is sent as NULL
	for _, m := range done {
		acks = append(acks, m.offset)
		if _, err := tx.Exec("INSERT INTO reading (zone, msg_offset, device_id, celsius) VALUES ($1, $2, $3, $4)",
			m.zone, m.offset, m.device, m.celsius); err != nil {
			return err
		}
	}
	for _, m := range failed {
		nacks = append(nacks, m.offset)
		// as PostgreSQL's text has to be
		reasons = append(reasons, strings.ToValidUTF8(strings.ReplaceAll(m.reason, "\x00", ""), "?"))
	}
	if _, err := tx.Exec("SELECT iotmq.settle($1, $2, nacks => $3, reasons => $4)",
		leaseID, pq.Array(acks), pq.Array(nacks), pq.Array(reasons)); err != nil {
		return err
	}
	return tx.Commit()
}

func main() {
	stopping := make(chan os.Signal, 1)
	signal.Notify(stopping, syscall.SIGTERM)
	db, err := sql.Open("postgres", "")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetConnMaxLifetime(time.Minute) // so that a server that is a standby now is left
	for len(stopping) == 0 {
		messages, err := consume(db) // by itself: a transaction of its own
		if err == nil && len(messages) > 0 {
			err = handle(db, messages)
		}
		var refused *pq.Error
		if errors.As(err, &refused) && refused.Code == "55000" { // the lease is over
			log.Print("others have these messages, or they come again")
		} else if err != nil {
			log.Print(err)
			time.Sleep(time.Second) // the pool makes another connection then
		}
	}
}
