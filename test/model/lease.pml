/*
 * lease.pml - one group in one zone: leases, retries, dead letters, and what moves the group.
 *
 * It stands for src/group: claim.c, lease.c, settle.c, expire.c, redeliver.c, redelivery.c,
 * deadletter.c, cursor.c, cursor_lock.c, redrive.c, place.c, waiting.c, and for what moves a
 * group: seek (sql/admin/seek.sql, sql/group/cursor.sql) and commit_offset (pull.c). Whoever
 * changes one of them changes this, too.
 *
 * All NMSG messages are committed and stable (stable.pml is about that).  A transaction is
 * the steps in which it takes locks and looks at what is committed, and one step in which its
 * changes are committed and its locks released.  Time is luck: any lease may expire at any
 * moment, unless it was extended a moment ago; whether a failed message has retries left
 * is a choice.  Locks: the use of the cursor, shared by all but those who move the group; the
 * rows of leases, or those of dead letters; then the row of cursor_state.  A claim takes none
 * that it has to wait for, a redrive no lease; all others wait.
 *
 * Checked at each commit: no offset is in two leases, nor in a lease and waiting, nor still to
 * come from the log as well; each message below the cursor is in flight, waiting, a dead
 * letter, redriven, or done; what is done does not come again unless the group is moved or
 * it is redriven; a dead letter ends only when it is settled or purged; what was redriven has
 * its place, or is not below next_redriven; nobody loses a lease before its deadline; what is
 * void is not settled.  With ORDERLY: no message is delivered while an earlier one of its
 * device is open elsewhere, waits or is still to come, and nobody keeps one while an earlier
 * one waits, but for redriven ones.  In the end a consumer that settles whatever it gets
 * leaves nothing behind; no deadlock.
 *
 * Switches: ORDERLY (an orderly group; with 2 messages one device, else two), FILTER (message
 * 1 is unwanted, but a dead letter of the time when it was not), TWO (each consumer settles
 * its two leases in one transaction), SEEKSKIPS (a move passes over leases that are locked:
 * none is, since nobody uses the cursor), NCONS consumers of ROUNDS claims of at most BATCH
 * messages, OPS calls by each of ADMINS administrators, PORTION redriven messages that one
 * transaction gives a place.
 *
 * Configurations.  test/model/run reads them from here; states are those seen with Spin 6.5.2.
 *   small     159655  -DNMSG=2
 *   small     185693  -DORDERLY
 *   small     189413  -DOPS=3 -DNCONS=1 -DROUNDS=2
 *   small     213495  -DORDERLY -DOPS=3 -DNCONS=1 -DROUNDS=2
 *   small     198538  -DPORTION=1 -DOPS=3 -DNCONS=1 -DROUNDS=2
 *   small     654893  -DPORTION=1 -DADMINS=2 -DNCONS=1 -DROUNDS=2
 *   small     617793  -DOPS=2
 *   small     729898  -DORDERLY -DOPS=2
 *   small     196650  -DFILTER
 *   small     196678  -DFILTER -DADMINS=2 -DNCONS=1
 *   small     143155  -DSEEKSKIPS
 *   small      13929  -DTWO -DNCONS=1 -DROUNDS=2 -DBATCH=1 -DOPS=2
 *   large    6035297  -DROUNDS=2
 *   large    1419860  -DOPS=3
 *   large    4971723  -DADMINS=2
 *   large    2388452  -DNMSG=3 -DOPS=2
 *   large     693217  -DNMSG=3 -DPORTION=1 -DOPS=3 -DNCONS=1 -DROUNDS=2
 *   large    9529374  -DNCONS=3
 *   large    4788324  -DORDERLY -DROUNDS=2
 *   large    2653281  -DORDERLY -DNMSG=3 -DOPS=2
 *   large    1154549  -DORDERLY -DNMSG=4
 *   large    3356605  -DFILTER -DROUNDS=2
 *   large    1066100  -DTWO -DROUNDS=2 -DBATCH=1
 *
 * Mutations, each refuted by `run`: name, configuration, the place in C that it stands for.
 *   refute FILLSTALE -DNMSG=2
 *       claim.c, add_new: what was found without the lock, though next_offset moved meanwhile
 *   refute REMEMBERSTALE -DFILTER
 *       claim.c, iotmq_claim_keep: next_offset as it was before the cursor was held
 *   refute NODEADLINELOOK -DNMSG=2
 *       expire.c, iotmq_expire_leases: no second look at the deadline under the lock
 *   refute STALELEASE -DNMSG=2
 *       the same: the lease as it was read without the lock
 *   refute OLDESTBLIND -DNMSG=2
 *       the same: oldest_lease passes over a lease that somebody has locked
 *   deadlock NOUSE -DNMSG=2
 *       settle.c, lock_lease: locks the lease without the use of the cursor, or before it
 *   refute NOUSE -DSEEKSKIPS
 *       the same, if a move did not wait for the leases: what is void is settled
 *   deadlock SEEKSHARES -DNMSG=2
 *       sql/admin/seek.sql, seek_begin, and pull.c, iotmq_commit_offset: the users of the
 *       cursor are not excluded
 *   refute COMMITKEEPS -DNMSG=2
 *       pull.c, iotmq_commit_offset: back without voiding what is in flight or waits
 *   refute SEEKKEEPSMARKS -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       sql/group/cursor.sql, cursor_move: what was redriven stays so
 *   refute NOBOUND -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       redrive.c, settle_cursors: next_redriven stays as it was
 *   deadlock BURYWAITS -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       deadletter.c, bury_again: waits for a dead letter that is being redriven
 *   refute PLACELOG -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       place.c, take_portion: a second place for what comes from the log
 *   refute PLACETWICE -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       place.c, place: a second place for what is in flight
 *   refute PLACELOCKED -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       place.c, place_in_lease: the lease is told although somebody is settling it
 *   refute NOPLACELOOK -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       the same: no second look, under the lock, whether the message is open
 *   refute NOENDLOOK -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       place.c, place: no second look whether an ack has ended it
 *   refute NOLEASEFLAG -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       redeliver.c, deliver: the lease does not know that it has a redriven message
 *   refute FAILFORGETS -DOPS=3 -DNCONS=1 -DROUNDS=2
 *       fail.c, iotmq_fail_of: nor does what waits again
 *   refute NOPARK -DORDERLY -DBATCH=1
 *       claim.c, add_new: a new message is delivered though its device is in flight or waits
 *   refute NOFLIGHTLOOK -DORDERLY -DBATCH=1 -DROUNDS=2
 *       redeliver.c, iotmq_redeliver_due: a device's head though the device is in flight
 *   refute NOFOLLOWERS -DORDERLY
 *       settle.c, goes_back: later ones of the device stay with the consumer
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
#ifndef ADMINS
#define ADMINS 1
#endif
#ifndef PORTION
#define PORTION NMSG			/* redriven messages that get a place at once */
#endif
#ifndef BATCH
#define BATCH 2					/* max_messages */
#endif
#define DRAIN (2 * NMSG)			/* leases in which all that is left can be settled, and one without */
#define LAST_ID (NCONS * ROUNDS + DRAIN)
#ifdef FILTER
#define UNWANTED 2				/* a set: message 1 */
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

/* The lock on the cursor's use: who has it shared, or exclusive */
byte users = 0;
bool moving = 0;
bool queued = 0;				/* somebody waits for it: whoever comes later waits behind him */
#define MAY_USE (!moving && !queued)

/* The cursor's row, as committed */
byte pos = 1;					/* next_offset */
byte last_lease = 0;
byte oldest_lease = 1;
byte next_redriven = NMSG + 1;	/* that is: none */
bool plock = 0;

/* Leases, by id: each id is used once */
bool live[LAST_ID + 1];			/* the row is there */
bool llock[LAST_ID + 1];
bool future[LAST_ID + 1];		/* its deadline was moved into the future */
byte open[LAST_ID + 1];			/* the messages not settled */
bool redriven[LAST_ID + 1];		/* some of them are dead letters */

/* Sets of messages */
byte waiting = 0;				/* rows of redelivery */
byte again = 0;					/* those of them that say that they were redriven */
byte dead = UNWANTED;			/* dead letters; several of a message are one */
byte marked = 0;				/* those redriven */
byte taken = 0;					/* those whose rows somebody has locked, to mark or delete them */

/* What only the checks know */
byte settled = 0;				/* acknowledged, skipped or purged since they were to be delivered */
byte owed = UNWANTED;			/* dead letters that nobody settled or purged */
byte done = 0;

/* For the moment of one step */
hidden byte flying, flagged, twice, holder, p, k, listed, i;

#define VALID(id) (live[id] && (id) >= oldest_lease)

inline in_flight()
{
	flying = 0;
	flagged = 0;
	twice = 0;
	i = 1;
	do
	:: i <= LAST_ID ->
		if
		:: VALID(i) ->
			twice = twice | (flying & open[i]);
			flying = flying | open[i];
			flagged = flagged | (redriven[i] -> open[i] : 0)
		:: else
		fi;
		i++
	:: else -> break
	od
}

/* After each commit */
inline check()
{
	in_flight();
	assert(twice == 0);						/* no offset in two leases, */
	assert((flying & waiting) == 0);		/* nor in one and on its way to another, */
	assert(((flying | waiting) & ~BELOW(pos)) == 0);	/* nor still to come from the log, too */
	/* nothing is lost, */
	assert((ALL & BELOW(pos) & ~(flying | waiting | settled | dead | marked | taken)) == 0);
	assert((settled & (flying | waiting)) == 0);	/* what is done is done */
	assert((owed & ~(dead | marked | taken)) == 0);	/* a dead letter ends when it is settled or purged */
	assert((again & ~(waiting & marked)) == 0);
	/* what was redriven has a place, or the next claim gives it one */
	assert((marked & BELOW(pos) & BELOW(next_redriven) & ~(again | flagged)) == 0);
	check_followers()
}

/* These messages failed: they wait, or if that was the last retry they are dead letters. */
inline fail(set, was_redriven)
{
	if
	:: bury ->
		dead = dead | (set);
		owed = owed | (set);
		marked = marked & ~(set)
	:: else ->
		waiting = waiting | (set);
#ifndef FAILFORGETS
		again = again | ((was_redriven) -> (set) & marked : 0)
#endif
	fi
}

#ifdef PLACELOG
#define COMES_FROM_LOG(o) false
#else
#define COMES_FROM_LOG(o) ((o) >= pos)
#endif

/* The lease that has message p; 0: none. */
inline find_lease()
{
	holder = 0;
	i = 1;
	do
	:: i <= LAST_ID ->
		if
		:: VALID(i) && HAS(open[i], p) -> holder = i
		:: else
		fi;
		i++
	:: else -> break
	od
}

/* Message p gets its place; of the lease it is known that it had the message. */
inline place()
{
	if
	:: holder != 0 && live[holder] && llock[holder] ->
		/* somebody is settling it: it stays a dead letter */
#ifdef PLACELOCKED
		redriven[holder] = 1
#else
		dead = dead | (marked & BIT(p));
		marked = marked & ~BIT(p)
#endif
#ifdef NOPLACELOOK
	:: holder != 0 && live[holder] && !llock[holder] -> redriven[holder] = 1
#else
	:: holder != 0 && live[holder] && !llock[holder] && HAS(open[holder], p) -> redriven[holder] = 1
#endif
	:: else ->
		if
#ifdef NOENDLOOK
		:: true ->
#else
		:: HAS(marked, p) ->
#endif
			waiting = waiting | BIT(p);
			again = again | BIT(p);
			settled = settled & ~BIT(p)
		:: else
		fi
	fi
}

/* Which are to get a place, as far as they are listed. */
inline begin_placing()
{
	p = next_redriven;
	next_redriven = NMSG + 1;
	k = 0
}

#define STAYS (HAS(listed, p) && (COMES_FROM_LOG(p) || k == PORTION))

/* A claim gives places; built: the messages of the lease that it is making. */
inline place_redriven(built)
{
	if
	:: next_redriven < pos ->
		listed = marked;
		begin_placing();
		do
		:: p <= NMSG && STAYS -> next_redriven = p; break
		:: p <= NMSG && !STAYS ->
			if
			:: HAS(listed, p) && HAS(built, p) -> k++; flag = 1
			:: HAS(listed, p) && !HAS(built, p) -> k++; find_lease(); place()
			:: else
			fi;
			p++
		:: else -> break
		od;
		/* those behind the portion */
		flag = flag || ((built) & ~BELOW(next_redriven)) != 0
	:: else
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
	waiting = waiting & ~batch;
#ifndef NOLEASEFLAG
	flag = flag || (batch & again) != 0;
#endif
	again = again & ~batch
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
	waiting = waiting & ~batch;
#ifndef NOLEASEFLAG
	flag = flag || (batch & again) != 0;
#endif
	again = again & ~batch
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

/* What was redriven is, whatever the filter says. */
#define WANTED(o) (!HAS(UNWANTED, o) || (HAS(marked, o) && (o) >= next_redriven))

/* New messages; in an orderly group those behind others of their device wait with them. */
inline take_new()
{
	do
	:: pos <= NMSG && n < BATCH ->
		settled = settled & ~BIT(pos);
		if
		:: !WANTED(pos) -> settled = settled | BIT(pos)
		:: WANTED(pos) && BEHIND(pos) -> waiting = waiting | BIT(pos)
		:: else -> batch = batch | BIT(pos); n++
		fi;
		pos++
	:: else -> break
	od
}

/* claim.c: one lease, if nobody else has the cursor; got says whether. */
inline consume()
{
	got = 0;
#ifdef FILLSTALE
	from = pos;								/* looked at without the lock */
#endif
	atomic {
		if
		:: !MAY_USE || plock -> goto consumed
		:: else -> users++; plock = 1
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
	:: first = 1
	:: !drains -> first = 0
	:: !drains && seen == 0 -> only_new = 1
	fi;
	d_step {
		id = 1;
		do
		:: id <= LAST_ID ->
			if
			:: HAS(seen, id) ->
				assert(!future[id]);		/* nobody loses a lease before its deadline */
				fail(FAILED(id), redriven[id]);
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
		if
		:: only_new
		:: else -> place_redriven(0)
		fi;
		in_flight();
		if
		:: first -> redeliver()
		:: else
		fi;
		if
		:: batch == 0 || (batch & ~BELOW(pos)) == 0 ->
#ifdef FILLSTALE
			pos = from;
#endif
			take_new();
			if
			:: batch != 0 -> check_order()
			:: else
			fi;
			place_redriven(batch)
		:: else
		fi;
		n = 0;
		if
		:: batch != 0 ->
			last_lease++;
			got = last_lease;
			live[got] = 1;
			open[got] = batch;
			redriven[got] = flag
		:: else
		fi;
		n = oldest_lease;
		do
#ifdef OLDESTBLIND
		:: n <= last_lease && (!live[n] || llock[n]) -> n++
#else
		:: n <= last_lease && !live[n] -> n++
#endif
		:: else -> break
		od;
		oldest_lease = n;
		n = 0; seen = 0; batch = 0; bury = 0; first = 0; only_new = 0; flag = 0; from = 0;
		check();
		plock = 0;
		users--
	}
consumed:
	skip
}

/* settle.c: locks a lease, to the end of the transaction; gone: 55000, and all is rolled back. */
inline lock_lease(lease)
{
#ifndef NOUSE
	atomic {
		if
		:: !uses && MAY_USE -> users++; uses = 1
		:: uses
		fi
	}
#endif
	atomic { !llock[lease] -> llock[lease] = 1 }
	d_step {
		gone = gone || !live[lease];
		flags = flags | (redriven[lease] -> BIT(lease) : 0);
		assert(gone || lease >= oldest_lease)	/* what is void is not settled */
	}
}

inline hold_for_lease(lease)
{
#ifdef NOUSE
	atomic {
		if
		:: !uses && MAY_USE -> users++; uses = 1
		:: uses
		fi
	}
#endif
	atomic { !plock -> plock = 1 }
	locked = 1
}

inline do_ack(lease)
{
	settled = settled | set;
	if
	:: HAS(flags, lease) -> owed = owed & ~(set & marked); marked = marked & ~set
	:: else
	fi;
	open[lease] = open[lease] & ~set;
	live[lease] = open[lease] != 0;
	redriven[lease] = HAS(flags, lease) && live[lease];
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
	fail(set, HAS(flags, lease));
	open[lease] = open[lease] & ~set;
	live[lease] = open[lease] != 0;
	redriven[lease] = HAS(flags, lease) && live[lease];
	set = 0;
	bury = 0
}

inline release(lease)
{
	llock[lease] = 0;
	plock = plock && !locked;
	users = users - (uses -> 1 : 0);
	uses = 0;
	locked = 0;
	flags = 0;
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
		d_step { do_ack(lease) }
	:: !gone ->
		/* nack; reject, or the last retry */
		choose(lease);
		if
		:: bury = 1
		:: skip
		fi;
		hold_for_lease(lease);
#ifdef BURYWAITS
		atomic { !bury || (set & taken) == 0 };
#endif
		d_step { do_fail(lease) }
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
	:: !gone -> hold_for_lease(a)
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
	byte mine = 0, before = 0, got = 0, set = 0, batch = 0;
	short seen = 0, flags = 0;	/* by id */
	byte from = 0, id = 0, n = 0, o = 0;
	bool gone = 0, uses = 0, locked = 0, bury = 0, first = 0, only_new = 0, flag = 0;
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
		:: atomic { !drains && !WANTED(pos) -> from = pos }
			atomic {
				if
				:: !MAY_USE || plock -> skip
				:: else -> users++; plock = 1; locked = 1
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
					plock = 0;
					users--
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
				flags = (redriven[got] -> BIT(got) : 0);
				do_ack(got);
				flags = 0;
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

/* cursor_move: what is on its way is void, what was redriven a dead letter again. */
inline void_all()
{
	n = 1;
	do
	:: n <= last_lease ->
		if
		:: VALID(n) && (HAS(mine, n) || !llock[n]) ->
			live[n] = 0; open[n] = 0; future[n] = 0; redriven[n] = 0;
			llock[n] = llock[n] && !HAS(mine, n)
		:: else
		fi;
		n++
	:: else -> break
	od;
	n = 0;
	oldest_lease = last_lease + 1;
	waiting = 0;
	again = 0;
#ifndef SEEKKEEPSMARKS
	dead = dead | marked;
	marked = 0;
#endif
	next_redriven = NMSG + 1
}

/* commit_offset forward: nothing of what is passed over is delivered. */
inline pass_over()
{
	settled = settled | (ALL & BELOW(to) & ~BELOW(pos));
	dead = dead | (marked & BELOW(to) & ~BELOW(pos) & ~BELOW(next_redriven));
	marked = marked & ~(marked & BELOW(to) & ~BELOW(pos) & ~BELOW(next_redriven));
	pos = to
}

/* seek and commit_offset: with nobody else using the cursor */
inline move()
{
#ifdef SEEKSHARES
	atomic { MAY_USE -> users++ }
#else
	atomic { MAY_USE -> queued = 1 }
	atomic { users == 0 -> moving = 1; queued = 0 }
#endif
	atomic { !plock -> plock = 1 }
#ifndef SEEKSKIPS
	n = 1;
	do
	:: n <= last_lease -> atomic {
			if
			:: VALID(n) && !llock[n] -> llock[n] = 1; mine = mine | BIT(n); n++
			:: !VALID(n) -> n++
			fi
		}
	:: else -> break
	od;
	n = 0;
#endif
	if
	:: d_step { settled = ALL & BELOW(to); pos = to; void_all() }	/* seek */
	:: d_step {					/* commit_offset */
			if
			:: to < pos ->
				pos = to;
#ifdef COMMITKEEPS
				settled = settled & BELOW(to)
#else
				settled = ALL & BELOW(to);
				void_all()
#endif
			:: else -> pass_over()
			fi
		}
	fi;
	d_step {
		n = 1;
		do
		:: n <= last_lease -> llock[n] = llock[n] && !HAS(mine, n); n++
		:: else -> break
		od;
		n = 0;
		mine = 0;
		check();
		plock = 0;
#ifdef SEEKSHARES
		users--
#else
		moving = 0
#endif
	}
}

/* Locks dead letters, one or all, to mark or delete them: rows first, then the cursor. */
inline take_letters()
{
	atomic { MAY_USE -> users++ }
	d_step {
		set = dead & ~taken & (to > NMSG -> ALL : BIT(to));
		dead = dead & ~set;
		taken = taken | set
	}
	atomic { !plock -> plock = 1 }
}

inline redrive()
{
	take_letters();
	/* place.c, with the leases not locked yet */
	d_step {
		p = 1;
		do
		:: p <= NMSG ->
			if
			:: HAS(marked | set, p) ->
#ifndef PLACETWICE
				find_lease();
				found[p] = holder;
#endif
				list = list | BIT(p)
			:: else
			fi;
			p++
		:: else -> break
		od
	}
	d_step {
		marked = marked | set;
		taken = taken & ~set;
#ifndef NOBOUND
		p = 1;
		do
		:: p < next_redriven && !HAS(set, p) -> p++
		:: else -> break
		od;
		next_redriven = p;
#endif
		listed = list;
		if
#ifdef PLACELOG
		:: true ->
#else
		:: next_redriven < pos ->
#endif
			begin_placing();
			do
			:: p <= NMSG && STAYS -> next_redriven = p; break
			:: p <= NMSG && !STAYS ->
				if
				:: HAS(listed, p) -> k++; holder = found[p]; place()
				:: else
				fi;
				p++
			:: else -> break
			od
		:: else
		fi;
		p = 1;
		do
		:: p <= NMSG -> found[p] = 0; p++
		:: else -> break
		od;
		list = 0;
		set = 0;
		check();
		plock = 0;
		users--
	}
}

inline purge()
{
	take_letters();
	d_step {
		taken = taken & ~set;
		owed = owed & ~(set & ~(dead | marked));
		in_flight();
		settled = settled | (set & ~(flying | waiting));
		set = 0;
		check();
		plock = 0;
		users--
	}
}

/* What waits becomes dead letters, once all that is redriven has its place. */
inline give_up()
{
	atomic { MAY_USE -> users++ }
	atomic { !plock -> plock = 1 }
	d_step {
		do
		:: next_redriven < pos -> place_redriven(0)
		:: else -> break
		od;
		set = waiting & (to > NMSG -> ALL : BIT(to));
		waiting = waiting & ~set;
		again = again & ~set;
		bury = 1;
		fail(set, 0);
		bury = 0;
		flag = 0;
		set = 0;
		check();
		plock = 0;
		users--
	}
}

/* Whoever moves the group, redrives, purges or gives up. */
proctype admin(byte ops)
{
	byte to = 0, n = 0, set = 0, list = 0;
	bool bury = 0, flag = 0;
	short mine = 0;				/* by id */
	byte found[NMSG + 1];		/* the lease that a message is in */

	do
	:: ops > 0 ->
		ops--;
		select(to : 1 .. NMSG + 1);
		if
		:: move()
		:: (dead & ~taken) != 0 -> redrive()
		:: (dead & ~taken) != 0 -> purge()
		:: waiting != 0 -> give_up()
		:: skip
		fi;
		to = 0
	:: else -> break
	od;
	done++
}

init
{
	byte c;

	atomic {
		c = 0;
		do
		:: c < NCONS -> run consumer(0, ROUNDS); c++
		:: else -> break
		od;
		c = 0;
		do
		:: c < ADMINS -> run admin(OPS); c++
		:: else -> break
		od;
		c = 0
	}
	done == NCONS + ADMINS;
	/* all deadlines pass: what is left is delivered and settled in so many leases */
	d_step {
		c = 1;
		do
		:: c <= LAST_ID -> future[c] = 0; c++
		:: else -> break
		od;
		c = 0;
		done = 0
	}
	run consumer(1, DRAIN);
	done == 1;
	assert(pos == NMSG + 1 && waiting == 0 && marked == 0 && taken == 0);
	assert(users == 0 && MAY_USE && !plock);
	assert(((settled | dead) & ALL) == ALL)
}
