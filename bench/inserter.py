"""A script as people write it: a line of mosquitto_sub is a row, and a transaction.

usage: mosquitto_sub -F '%t %p' ... | inserter.py DATABASE
"""

import sys

import psycopg2

connection = psycopg2.connect(dbname=sys.argv[1])
cursor = connection.cursor()
for line in sys.stdin:
    topic, payload = line.split(" ", 1)
    cursor.execute("INSERT INTO script (device_id, payload) VALUES (%s, %s)", (topic.split("/")[1], payload))
    connection.commit()
