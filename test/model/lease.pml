/*
 * lease.pml - one group in one zone: leases, retries, dead letters, and what moves the group.
 *
 * It stands for src/group: claim.c, lease.c, settle.c, expire.c, redeliver.c, redelivery.c,
 * deadletter.c, cursor.c, and for what moves a group under the position's lock: seek
 * (sql/admin/seek.sql), commit_offset (pull.c), redrive and purge_dead_letters (redrive.c).
 * Whoever changes one of them changes this, too.
 *
 * All NMSG messages are committed and stable (stable.pml is about that).  A transaction is
 * the steps in which it takes locks and looks at what is committed, and one step in which its
 * changes are committed and its locks released.  Time is luck: any lease may expire at any
 * moment, unless it was extended a moment ago; whether a failed message has retries left
 * is a choice.  Locks: the rows of leases, then the position (the cursor's row of cursor_state);
 * a claim skips what is locked, all others wait.
 *
 * Checked at each commit: no offset is in two leases, nor in a lease and waiting; each
 * message below the position is in flight, waiting, a dead letter, or done; what is done does
 * not come again unless the group is moved; a dead letter ends only when it is settled
 * or purged; what was redriven is on its way and has its letter; nobody loses a
 * lease before its deadline; what is void is not settled.  With ORDERLY: no message is
 * delivered while an earlier one of its device is open elsewhere, waits or is still to
 * come, and nobody keeps one while an earlier one waits.  In the end a consumer that settles
 * whatever it gets leaves nothing behind; no deadlock.
 *
 * Switches: ORDERLY (an orderly group; with 2 messages one device, else two), FILTER (message
 * 1 is unwanted), TWO (each consumer settles its two leases in one transaction), NCONS
 * consumers of ROUNDS claims of at most BATCH messages, OPS calls by an administrator.
 *
 * Configurations.  test/model/run reads them from here; states are those seen with Spin 6.5.2.
 *   small     105265  -DNMSG=2
 *   small     135991  -DORDERLY
 *   small      92032  -DOPS=3 -DNCONS=1 -DROUNDS=2
 *   small     110692  -DORDERLY -DOPS=3 -DNCONS=1 -DROUNDS=2
 *   small     408958  -DOPS=2
 *   small     563533  -DORDERLY -DOPS=2
 *   small      51579  -DFILTER
 *   small       7241  -DTWO -DNCONS=1 -DROUNDS=2 -DBATCH=1 -DOPS=2
 *   large    3174405  -DROUNDS=2
 *   large     951381  -DOPS=3
 *   large    1404435  -DNMSG=3 -DOPS=2
 *   large    4837796  -DNCONS=3
 *   large    3252963  -DORDERLY -DROUNDS=2
 *   large    1780085  -DORDERLY -DNMSG=3 -DOPS=2
 *   large     739884  -DORDERLY -DNMSG=4
 *   large     770058  -DFILTER -DROUNDS=2
 *   large     343572  -DTWO -DROUNDS=2 -DBATCH=1
 *
 * Mutations, each refuted by `run`: name, configuration, the place in C that it stands for.
 *   refute FILLSTALE -DNMSG=2
 *       claim.c, add_new: what was found without the lock, though next_offset moved meanwhile
 *   refute REMEMBERSTALE -DFILTER
 *       claim.c, remember: no second look at next_offset under the lock
 *   refute NODEADLINELOOK -DNMSG=2
 *       expire.c, iotmq_expire_leases: no second look at the deadline under the lock
 *   refute STALELEASE -DNMSG=2
 *       the same: the lease as it was read without the lock
 *   refute IGNOREVOID -DNMSG=2
 *       settle.c, open_lease and lock_position: no look at oldest_lease
 *   refute NOVOIDLOOK -DNMSG=2
 *       settle.c, lock_position: no second look at oldest_lease under the position's lock
 *   refute ACKALONE -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       settle.c, forget_dead_letters: an ack changes dead_message without the position's lock
 *   deadlock SEEKWAITS -DTWO -DNCONS=1 -DROUNDS=2 -DBATCH=1
 *       sql/admin/seek.sql, seek_cursor: waits for the leases' rows before it locks the position
 *   refute COMMITKEEPS -DNMSG=2
 *       pull.c, iotmq_commit_offset: back without voiding what is in flight or waits
 *   refute REDRIVEBLIND -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       redrive.c, iotmq_redrive_wait: a message that is in flight or waits is redriven
 *   refute REDRIVEDELETES -DOPS=2 -DNCONS=1
 *       the same: the letter of a message that comes from the log by itself is deleted
 *   refute NOPARK -DORDERLY -DBATCH=1
 *       claim.c, defer: a new message is delivered though its device is in flight or waits
 *   refute NOFLIGHTLOOK -DORDERLY -DBATCH=1 -DROUNDS=2
 *       redeliver.c, iotmq_redeliver_due: a device's head though the device is in flight
 *   refute NOFOLLOWERS -DORDERLY
 *       settle.c, choose_followers: later ones of the device stay with the consumer
 */
#ifndef NMSG
#define NMSG 2
#endif
#ifndef NCONS
#define NCONS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef OPS
#define OPS 1
#endif
#ifndef BATCH
#define BATCH 2					/* max_messages */
#endif
#define DRAIN (2 * NMSG)			/* leases in which all that is left can be settled, and one without */
#define LAST_ID (NCONS * ROUNDS + DRAIN)
#ifdef FILTER
#define UNWANTED 1				/* the group's filter passes this message over */
#else
#define UNWANTED 0
#endif

#define BIT(o) (1 << (o))
#define HAS(set, o) (((set) >> (o)) & 1)
#define BELOW(o) (BIT(o) - 1)
#define ALL (BIT(NMSG + 1) - 2)

/* Orderly: the messages of odd offsets are of one device, the others of another one. With
NMSG 2 there is one device, so that there is an order to break. */
#if NMSG == 2
#define MATES(o) ALL
#else
#define MATES(o) (ALL & (((o) & 1) -> 170 : 84))
#endif

/* The position's row, as committed */
byte pos = 1;					/* next_offset */
byte last_lease = 0;
byte oldest_lease = 1;
bool plock = 0;

/* Leases, by id: each id is used once */
bool live[LAST_ID + 1];			/* the row is there */
bool llock[LAST_ID + 1];
bool future[LAST_ID + 1];		/* its deadline was moved into the future */
byte open[LAST_ID + 1];			/* the messages not settled */
bool redriven[LAST_ID + 1];		/* some of them are dead letters */

/* Sets of messages */
byte waiting = 0;				/* rows of redelivery */
byte again = 0;					/* those of them, or in flight, that were redriven */
byte letters = 0;				/* dead letters, redriven ones too */

/* What only the checks know */
byte settled = 0;				/* acknowledged, skipped or purged since they were to be delivered */
byte owed = 0;					/* dead letters that nobody settled or purged */
byte done = 0;

#define VALID(id) (live[id] && (id) >= oldest_lease)

inline in_flight()
{
	flying = 0;
	twice = 0;
	n = 1;
	do
	:: n <= LAST_ID ->
		if
		:: VALID(n) -> twice = twice | (flying & open[n]); flying = flying | open[n]
		:: else
		fi;
		n++
	:: else -> break
	od;
	n = 0
}

/* After each commit */
inline check()
{
	in_flight();
	assert(twice == 0);						/* no offset in two leases, */
	assert((flying & waiting) == 0);		/* nor in one and on its way to another */
	assert((ALL & BELOW(pos) & ~(flying | waiting | settled | letters)) == 0);	/* nothing is lost */
	assert((settled & (flying | waiting)) == 0);	/* what is done is done */
	assert((owed & ~letters) == 0);			/* a dead letter ends when it is settled or purged */
	assert((again & ~letters) == 0);
	assert((again & ~(flying | waiting)) == 0);	/* what was redriven is on its way */
	check_followers();
	flying = 0
}

/* These messages failed: they wait, or if that was the last retry they are dead letters. */
inline fail(set)
{
	if
	:: bury ->
		letters = letters | (set);
		owed = owed | (set);
		again = again & ~(set)
	:: else -> waiting = waiting | (set)
	fi
}

#ifdef NOFLIGHTLOOK
#define FREE(o) true
#else
#define FREE(o) ((flying & MATES(o)) == 0)
#endif

#ifdef ORDERLY
/* A device's head, unless the device is in flight, with what waits behind it. */
inline redeliver()
{
	o = 1;
	do
	:: o <= NMSG ->
		if
		:: HAS(waiting, o) && n < BATCH && FREE(o) -> batch = batch | BIT(o); n++
		:: else
		fi;
		o++
	:: else -> break
	od;
	o = 0;
	waiting = waiting & ~batch
}

/* Nobody has a message while an earlier one of its device waits for its retry. */
inline check_followers()
{
	n = 1;
	do
	:: n <= NMSG ->
		assert(!HAS(flying, n) || (MATES(n) & BELOW(n) & waiting & ~again) == 0);
		n++
	:: else -> break
	od;
	n = 0
}

/* Nothing earlier of its device is open elsewhere, or waits, or is still to come. */
inline check_order()
{
	o = 1;
	do
	:: o <= NMSG ->
		assert(!HAS(batch, o) || (MATES(o) & BELOW(o) & (flying | waiting | ~BELOW(pos))) == 0);
		o++
	:: else -> break
	od;
	o = 0
}
#ifdef NOPARK
#define BEHIND(o) false
#else
#define BEHIND(o) (((waiting | flying) & MATES(o)) != 0)
#endif
#else
inline redeliver()
{
	o = 1;
	do
	:: o <= NMSG ->
		if
		:: HAS(waiting, o) && n < BATCH -> batch = batch | BIT(o); n++
		:: else
		fi;
		o++
	:: else -> break
	od;
	o = 0;
	waiting = waiting & ~batch
}

inline check_followers()
{
	skip
}

inline check_order()
{
	skip
}
#define BEHIND(o) false
#endif

/* New messages; in an orderly group those behind others of their device wait with them. */
inline take_new()
{
	do
	:: pos <= NMSG && n < BATCH ->
		settled = settled & ~BIT(pos);
		if
		:: pos == UNWANTED -> settled = settled | BIT(pos)
		:: pos != UNWANTED && BEHIND(pos) -> waiting = waiting | BIT(pos)
		:: else -> batch = batch | BIT(pos); n++
		fi;
		pos++
	:: else -> break
	od
}

/* claim.c: one lease, if nobody else has the position; got says whether. */
inline consume()
{
	got = 0;
#ifdef FILLSTALE
	from = pos;								/* looked at without the lock */
#endif
	atomic {
		if
		:: plock -> goto consumed
		:: else -> plock = 1
		fi
	}
#ifdef STALELEASE
#define FAILED(id) was[id]
#else
#define FAILED(id) open[id]
#endif
	/* iotmq_expire_leases: as committed, not locked; whether time is up is a matter of luck */
	d_step {
		n = 1;
		do
		:: n <= LAST_ID ->
			if
			:: VALID(n) && !future[n] ->
				seen = seen | BIT(n);
#ifdef STALELEASE
				was[n] = open[n]
#endif
			:: else
			fi;
			n++
		:: else -> break
		od;
		n = 0
	}
	if
	:: true
	:: !drains -> seen = 0
	fi;
	id = 1;
	do
	:: id <= LAST_ID ->
		atomic {
			if
			:: !HAS(seen, id)
			:: HAS(seen, id) && (!live[id] || llock[id]) -> seen = seen & ~BIT(id)
			:: HAS(seen, id) && live[id] && !llock[id] ->
#ifndef NODEADLINELOOK
				if
				:: future[id] -> seen = seen & ~BIT(id)
				:: else -> llock[id] = 1
				fi
#else
				llock[id] = 1
#endif
			fi;
			id++
		}
	:: else -> break
	od;
	id = 0;
	if
	:: seen != 0 && !drains -> bury = 1
	:: bury = 0
	fi;
	if
	:: waiting != 0 -> first = 1
	:: !drains || waiting == 0 -> first = 0
	fi;
	d_step {
		id = 1;
		do
		:: id <= LAST_ID ->
			if
			:: HAS(seen, id) ->
				assert(!future[id]);		/* nobody loses a lease before its deadline */
				fail(FAILED(id));
				live[id] = 0;
				redriven[id] = 0;
				open[id] = 0;
				llock[id] = 0
			:: else
			fi;
			id++
		:: else -> break
		od;
		id = 0;
		in_flight();
		if
		:: first || (drains && waiting != 0) -> redeliver()
		:: else
		fi;
		if
		:: batch == 0 || (batch & ~BELOW(pos)) == 0 ->
#ifdef FILLSTALE
			pos = from;
#endif
			take_new()
		:: else
		fi;
		n = 0;
		if
		:: batch != 0 ->
			check_order();
			last_lease++;
			got = last_lease;
			live[got] = 1;
			open[got] = batch;
			redriven[got] = (batch & again) != 0
		:: else
		fi;
		n = oldest_lease;
		do
		:: n <= last_lease && !live[n] -> n++
		:: else -> break
		od;
		oldest_lease = n;
		n = 0; seen = 0; batch = 0; flying = 0; bury = 0; first = 0; from = 0;
		check();
		plock = 0
	}
consumed:
	skip
}

/* settle.c: locks a lease, to the end of the transaction; gone: 55000, and all is rolled back. */
inline lock_lease(lease)
{
	atomic { !llock[lease] -> llock[lease] = 1 }
	d_step {
		gone = gone || !live[lease];
#ifndef IGNOREVOID
		gone = gone || lease < oldest_lease;
#endif
		assert(gone || lease >= oldest_lease)	/* what is void is not settled */
	}
}

inline lock_position(lease)
{
	atomic { !plock -> plock = 1 }
	locked = 1;
#if !defined(NOVOIDLOOK) && !defined(IGNOREVOID)
	gone = gone || lease < oldest_lease
#endif
}

inline do_ack(lease)
{
	settled = settled | (VALID(lease) -> set : 0);
	if
	:: redriven[lease] ->
		assert(VALID(lease) || (set & again) == 0);	/* what is void ends no dead letter */
		letters = letters & ~(set & again);
		owed = owed & ~(set & again);
		again = again & ~set
	:: else
	fi;
	open[lease] = open[lease] & ~set;
	live[lease] = open[lease] != 0;
	redriven[lease] = redriven[lease] && live[lease];
	set = 0
}

/* In an orderly group later ones of the device go back with a message that is to come again. */
inline do_fail(lease)
{
#if defined(ORDERLY) && !defined(NOFOLLOWERS)
	o = 1;
	do
	:: o <= NMSG ->
		if
		:: !bury && HAS(set, o) -> set = set | (open[lease] & MATES(o) & ~BELOW(o))
		:: else
		fi;
		o++
	:: else -> break
	od;
	o = 0;
#endif
	fail(set);
	open[lease] = open[lease] & ~set;
	live[lease] = open[lease] != 0;
	set = 0;
	bury = 0
}

inline release(lease)
{
	llock[lease] = 0;
	plock = plock && !locked;
	locked = 0;
	gone = 0;
	set = 0;
	bury = 0;
	check()
}

/* Which messages: all that are open, or the first, or the last. */
inline choose(lease)
{
	if
	:: set = open[lease]
	:: set = open[lease] & (-open[lease])
#ifdef ORDERLY
	:: (open[lease] & (open[lease] - 1)) != 0 -> set = open[lease] & (open[lease] - 1)
#endif
	fi
}

inline settle(lease)
{
	lock_lease(lease);
	if
	:: gone
	:: !gone ->
		/* ack */
		choose(lease);
#ifndef ACKALONE
		if
		:: redriven[lease] -> lock_position(lease)
		:: else
		fi;
#endif
		d_step {
			if
			:: !gone -> do_ack(lease)
			:: else
			fi
		}
	:: !gone ->
		/* nack; reject, or the last retry */
		choose(lease);
		if
		:: bury = 1
		:: skip
		fi;
		lock_position(lease);
		d_step {
			if
			:: !gone -> do_fail(lease)
			:: else
			fi
		}
	:: !gone && !future[lease] ->
		/* extend; some time later that deadline has come, too */
		future[lease] = 1;
	fi;
	d_step { release(lease) }
}

#ifdef TWO
/* One transaction: nack of a lease, ack of another one. */
inline settle_two(a, b)
{
	lock_lease(a);
	if
	:: !gone -> lock_position(a)
	:: else
	fi;
	if
	:: !gone -> lock_lease(b); second = 1
	:: else
	fi;
	d_step {
		if
		:: !gone ->
			set = open[a];
			do_fail(a);
			set = open[b];
			do_ack(b)
		:: else
		fi;
		llock[a] = 0;
		llock[b] = llock[b] && !second;
		second = 0;
		release(a)
	}
}
#endif

proctype consumer(bool drains; byte rounds)
{
	byte mine = 0, before = 0, got = 0, set = 0, batch = 0, flying = 0, twice = 0;
	short seen = 0;				/* by id */
	byte from = 0, id = 0, n = 0, o = 0;
	bool gone = 0, locked = 0, bury = 0, first = 0;
#ifdef TWO
	bool second = 0;
#endif
#ifdef STALELEASE
	byte was[LAST_ID + 1];
#endif

	do
	:: rounds > 0 ->
		rounds--;
#ifdef FILTER
		/* remember(): this call delivers nothing, but tells what needn't be read again */
		if
		:: atomic { !drains && pos == UNWANTED -> from = pos }
			atomic {
				if
				:: plock -> skip
				:: else -> plock = 1; locked = 1
				fi
			}
			if
			:: locked ->
				d_step {
#ifndef REMEMBERSTALE
					if
					:: pos == from -> pos = from + 1; settled = settled | BIT(from)
					:: else
					fi;
#else
					pos = from + 1;
					settled = settled | BIT(from);
#endif
					check();
					from = 0;
					locked = 0;
					plock = 0
				}
			:: else -> from = 0
			fi
		:: skip
		fi;
#endif
		consume();
		if
		:: got == 0
		:: got != 0 && drains ->
			d_step {
				set = open[got];
				do_ack(got);
				check();
				got = 0
			}
		:: got != 0 && !drains ->
			before = mine;
			mine = got;
			got = 0;
#ifndef TWO
			if
			:: settle(mine)
			:: skip				/* the consumer is gone */
			fi;
			if
			:: future[mine] = 0	/* time passes */
			:: !future[mine]
			fi
#endif
		fi
	:: else -> break
	od;
#ifdef TWO
	if
	:: before != 0 -> settle_two(before, mine)
	:: else
	fi;
#endif
	done++
}

/* A move voids what is on its way. Rows of leases that somebody has locked stay, below oldest_lease. */
inline void_all()
{
	oldest_lease = last_lease + 1;
	n = 1;
	do
	:: n <= last_lease ->
		if
		:: live[n] && (!llock[n] || HAS(mine, n)) -> live[n] = 0; open[n] = 0; future[n] = 0; redriven[n] = 0
		:: else
		fi;
		llock[n] = llock[n] && !HAS(mine, n);
		n++
	:: else -> break
	od;
	n = 0;
	mine = 0;
	waiting = 0;
	again = 0
}

/* Whoever moves the group, redrives or purges: each under the position's lock. */
proctype admin(byte ops)
{
	byte to = 0, n = 0, flying = 0, twice = 0;
	short mine = 0;				/* by id */

	do
	:: ops > 0 ->
		ops--;
#ifdef SEEKWAITS
		/* the leases first */
		n = 1;
		do
		:: n <= LAST_ID && live[n] -> atomic { !llock[n] -> llock[n] = 1; mine = mine | BIT(n); n++ }
		:: n <= LAST_ID && !live[n] -> n++
		:: else -> break
		od;
#endif
		atomic { !plock -> plock = 1 }
		select(to : 1 .. NMSG + 1);
		if
		:: d_step {				/* seek */
				settled = ALL & BELOW(to);
				pos = to;
				void_all()
			}
		:: d_step {				/* commit_offset */
				if
				:: to < pos ->
					pos = to;
#ifdef COMMITKEEPS
					settled = settled & BELOW(to)
#else
					settled = ALL & BELOW(to);
					void_all()
#endif
				:: else ->
					settled = settled | (ALL & BELOW(to) & ~BELOW(pos));
					pos = to
				fi
			}
		:: HAS(letters, to) && !HAS(again, to) ->
			d_step {			/* redrive */
				in_flight();
				if
#ifdef REDRIVEDELETES
				:: to >= pos -> letters = letters & ~BIT(to)
#endif
#ifdef REDRIVEBLIND
				:: to < pos ->
					again = again | BIT(to);
					waiting = waiting | BIT(to);
					settled = settled & ~BIT(to)
#else
				:: to < pos && !HAS(flying | waiting, to) ->
					again = again | BIT(to);
					waiting = waiting | BIT(to);
					settled = settled & ~BIT(to)
#endif
				:: else			/* it comes by itself: the letter stays */
				fi
			}
		:: HAS(letters, to) && !HAS(again, to) ->
			d_step {			/* purge */
				letters = letters & ~BIT(to);
				owed = owed & ~BIT(to);
				in_flight();
				settled = settled | (HAS(flying | waiting, to) -> 0 : BIT(to))
			}
		:: skip
		fi;
		d_step {
			n = 1;
			do
			:: n <= LAST_ID -> llock[n] = llock[n] && !HAS(mine, n); n++
			:: else -> break
			od;
			mine = 0;
			n = 0;
			to = 0;
			check();
			plock = 0
		}
	:: else -> break
	od;
	done++
}

init
{
	byte i;

	atomic {
		i = 0;
		do
		:: i < NCONS -> run consumer(0, ROUNDS); i++
		:: else -> break
		od;
		run admin(OPS);
		i = 0
	}
	done == NCONS + 1;
	/* all deadlines pass: what is left is delivered and settled in so many leases */
	d_step {
		i = 1;
		do
		:: i <= LAST_ID -> future[i] = 0; i++
		:: else -> break
		od;
		i = 0;
		done = 0
	}
	run consumer(1, DRAIN);
	done == 1;
	assert(pos == NMSG + 1 && waiting == 0 && again == 0);
	assert(((settled | letters) & ALL) == ALL)
}
