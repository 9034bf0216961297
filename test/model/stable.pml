/*
 * stable.pml - the log of one zone: what publishers, readers, makers of segments, sealing
 * and retention may do at the same time without a message being lost.
 *
 * It stands for src/log: stable.c (the protocol p1 to p4 and r1 to r3 by these names),
 * scan.c (the walk over gaps), append.c and copy_in.c (publishers), segment.c and
 * sql/log/segment.sql (makers, sealing), and for sql/admin/retention.sql (dropping).  Whoever
 * changes one of them changes this, too.
 *
 * Checked: when a publisher commits and when a position is stored, each committed message
 * below the position was delivered (or dropped, once its segment was sealed); a row has
 * an offset of its own; when all is quiet, two more rounds deliver all the rest.
 *
 * PostgreSQL, as it is modelled: a transaction ends by leaving the ProcArray (its id and its
 * lxid are cleared and its rows judged anew, in one step), sending its invalidation
 * messages, releasing its locks, three steps.  A savepoint's rollback marks its rows, then
 * releases its locks.  PREPARE: the dummy PGPROC, the locks move there, the backend's own
 * entry is cleared.  COMMIT PREPARED: leaves the ProcArray, its entry becomes invalid,
 * invalidation messages, locks.  The list of holders is one step (GetLockConflicts), the
 * id of each of them is read in a step of its own.  Who loads a catalog sees what is
 * committed, whether or not it was announced.
 *
 * Aspects, each behind a switch:
 *   SEGMENT    publisher 0 makes the segment of its messages; others use it once it is committed
 *   SAVEPOINT  publisher 0 publishes in a savepoint, rolls back to it, publishes again
 *   PREPARE    transactions may end by PREPARE TRANSACTION and COMMIT or ROLLBACK PREPARED
 *   SEALING    a session closes the past (floor_time), another one seals it; clocks go anywhere
 *   DROP       and then retention drops it
 *   OWN        reader 0 publishes and reads in one transaction, before or after its row is there
 *   AHEAD      reader 0 first reads at the end, for another group of the same zone
 *   EPOCH      the sequence stands in the epoch before the recovery
 * Sizes: NPUB publishers of MSGS messages, NREAD readers of ROUNDS rounds each.
 * Coarser steps: ATONCE (an index is read in one step, else offset by offset; sealing looks
 * at all holders in one step), COARSE (p1 with p2, and the end of a publisher).
 *
 * Configurations.  test/model/run reads them from here; states are those seen with Spin 6.5.2.
 *   small     317995  -DNPUB=2
 *   small     268282  -DSEGMENT -DATONCE
 *   small      41487  -DSEGMENT -DNPUB=1 -DNREAD=2 -DATONCE
 *   small     212568  -DSAVEPOINT -DNPUB=1 -DNREAD=2 -DATONCE
 *   small       4217  -DSAVEPOINT -DSEALING -DDROP -DNPUB=1 -DNREAD=0 -DATONCE
 *   small      20040  -DSAVEPOINT -DSEGMENT -DPREPARE -DNPUB=1 -DATONCE
 *   small     800500  -DPREPARE -DSEGMENT -DATONCE
 *   small      57430  -DPREPARE -DSEGMENT -DNPUB=1 -DNREAD=2 -DATONCE
 *   small     120671  -DOWN -DSEGMENT -DPREPARE -DNPUB=1 -DATONCE
 *   small      77677  -DAHEAD -DATONCE
 *   small     165081  -DSEALING -DPREPARE -DNREAD=0 -DATONCE
 *   small      65966  -DSEALING -DDROP -DNREAD=0 -DATONCE
 *   small      99301  -DSEALING -DDROP -DNPUB=1 -DATONCE
 *   small     320959  -DEPOCH -DROUNDS=1 -DATONCE
 *   large    4418088  -DNREAD=2 -DATONCE
 *   large    3924498  -DMSGS=2 -DATONCE
 *   large    3946683  -DNPUB=3 -DCOARSE -DATONCE
 *   large   11037725  -DSEGMENT -DNREAD=2 -DATONCE
 *   large    2552681  -DSEGMENT -DMSGS=2 -DATONCE
 *   large     951900  -DSEGMENT -DPREPARE
 *   large    3240836  -DSAVEPOINT
 *   large    8542613  -DSAVEPOINT -DSEGMENT -DPREPARE -DATONCE
 *   large    6941122  -DSEALING -DROUNDS=1 -DATONCE
 *   large     498446  -DSEALING -DDROP -DPREPARE -DNREAD=0
 *   large    6402875  -DSEALING -DDROP -DCOARSE -DATONCE
 *   large    6954359  -DSEALING -DDROP -DNPUB=3 -DNREAD=0 -DATONCE
 *   large   11214857  -DOWN -DSEGMENT -DPREPARE -DNPUB=1 -DNREAD=2 -DATONCE
 *   large    1651291  -DEPOCH -DATONCE
 *
 * Mutations, each refuted by `run`: name, configuration, the place in C that it stands for.
 *   refute NOP1 -DATONCE
 *       append.c, open_present: no transaction id before the lock
 *   refute NORELOCK -DSAVEPOINT -DNPUB=1 -DATONCE
 *       append.c, copy_in.c: "this transaction has the lock already", after a savepoint's rollback
 *   refute PORTALOWNER -DSEGMENT -DNPUB=1 -DATONCE
 *       append.c, copy_in.c: the locks are taken under CurrentResourceOwner, which is a cursor's
 *       perhaps, instead of CurTransactionResourceOwner
 *   refute LOOKBEFORE -DSEALING -DNPUB=1 -DNREAD=0 -DATONCE
 *       append.c, open_present: the segment is looked up before the id and the lock
 *   refute KEEPSEGMENT -DSAVEPOINT -DSEALING -DNPUB=1 -DNREAD=0 -DATONCE
 *       append.c, copy_in.c: the segment or the time of before a savepoint's rollback is used again
 *   refute EARLYF -DATONCE
 *       stable.c, iotmq_stable_refresh: F is read before H
 *   refute XMAX -DATONCE
 *       the same: F is a snapshot's xmax, the latest completed id + 1
 *   refute OWNLEARNS -DOWN -DSEGMENT -DPREPARE -DNPUB=1 -DATONCE
 *       the same: something is learnt in a transaction that has the publishers' lock itself
 *   refute SHAREFIRST -DSEGMENT -DATONCE
 *       the same: the makers' lock is requested before the holders are listed
 *   refute NOMAKER -DSEGMENT -DNPUB=1 -DNREAD=2 -DATONCE
 *       segment.c, iotmq_segment_make: whoever makes a segment holds no makers' lock
 *   refute NORESEEK -DATONCE
 *       scan.c, resolve_gap: segments are not read again when more became decided
 *   refute NOSTALE -DSEGMENT -DNPUB=1 -DATONCE
 *       the same: no AcceptInvalidationMessages and no look at the change counter at a gap
 *   refute STALEFIRST -DSEGMENT -DNPUB=1 -DATONCE
 *       the same: only before the holders are listed, so the list of segments is older
 *   refute PROVESALWAYS -DAHEAD -DATONCE
 *       scan.c, iotmq_scan_begin: "proves" is true wherever the scan begins
 *   refute NOCLOSERLOCK -DSEALING -DNPUB=1 -DNREAD=0 -DATONCE
 *       sql/log/segment.sql, segment_seal: floor_time is set without the makers' lock
 *   refute ONESTEP -DSEALING -DNPUB=1 -DNREAD=0 -DATONCE
 *       the same: floor and sample in one transaction
 *   refute OLDSNAPSHOT -DSEALING -DNPUB=1 -DNREAD=0 -DATONCE
 *       the same: bounds read with a snapshot older than the proof
 *   refute DROPUNWRITTEN -DSEALING -DDROP -DNREAD=0 -DATONCE
 *       sql/admin/retention.sql, retention_note_earliest: earliest_offset above an offset that is drawn
 *       and not written yet
 *   refute EPOCHONCE -DEPOCH -DATONCE
 *       append.c: the sequence moves to the new epoch without a second look under the lock
 */
#ifndef NPUB
#define NPUB 2
#endif
#ifndef MSGS
#define MSGS 1
#endif
#ifndef NREAD
#define NREAD 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

#ifdef SAVEPOINT
#define FIRST_DRAWS (MSGS + 1)
#else
#define FIRST_DRAWS MSGS
#endif
#ifdef OWN
#define OWN_DRAWS 1
#else
#define OWN_DRAWS 0
#endif
#ifdef EPOCH
#define BASE 2					/* where the offsets of the new epoch begin */
#else
#define BASE 0
#endif
#define MAXO (BASE + FIRST_DRAWS + (NPUB - 1) * MSGS + OWN_DRAWS)

/* Transactions: the publishers, then that of a reader who publishes too, the one that
closes the past, and one that never does anything, of whoever only looks. */
#define T_OWN NPUB
#define T_CLOSER (NPUB + 1)
#define T_NONE (NPUB + 2)
#define NTX (NPUB + 3)
#define NOBODY 255

#define OPEN 0
#define COMMITTED 1
#define ROLLEDBACK 2

byte nextxid = 1;				/* to be assigned next; 0 is none */
byte completed = 0;				/* the highest that ended */
#ifdef EPOCH
byte seq = 1;					/* the last offset drawn: by somebody whom a crash ended */
bool moving = 0;				/* somebody has the lock to move the sequence */
#else
byte seq = 0;					/* the last offset drawn */
#endif

/* Transactions: PGPROC, lock table, prepared transactions, commit log */
byte xid[NTX];					/* in its PGPROC */
bool lx[NTX];					/* its lxid is set there */
bool lock[NTX];					/* holds the publishers' lock */
bool maker[NTX];				/* holds the makers' lock */
bool moved[NTX];				/* prepared: its locks are at its dummy PGPROC */
byte gxid[NTX];					/* prepared: its id, while the entry is valid */
byte fate[NTX];

/* The log: segment 0 is that of the past, 1 that of the present. */
byte owner[MAXO + 1];			/* of the row; NOBODY: there is none (yet) */
bool newer[MAXO + 1];			/* it lies in segment 1 */
bool undone[MAXO + 1];			/* it was rolled back to a savepoint */
bool told[MAXO + 1];			/* it was delivered, or dropped by retention */

/* The catalog: committed, so that a load sees it; announced, so that everybody knows */
#ifdef SEGMENT
bool made = 0;					/* segment 1 */
bool announced = 0;
#endif
#ifdef SEALING
bool closed = 0;				/* floor_time lies behind segment 0 */
bool closed_announced = 0;
bool sealed = 0;				/* segment 0, with these bounds */
byte lowest = NOBODY;
byte highest = 0;
byte in_past = 0;				/* publishers that have segment 0 open */
bool dropped = 0;
byte earliest = 1;
#endif

/* The position's row */
byte pos = 1;
byte pstable = 0;
byte psample = 0;
byte pxid = 0;
bool plocked = 0;

byte done = 0;

#define OLD(t, f) (LISTED(t) && (lx[t] -> xid[t] : gxid[t]) != 0 && (lx[t] -> xid[t] : gxid[t]) < f)
#if NPUB > 2
#define NONE_BELOW(f) (!OLD(0, f) && !OLD(1, f) && !OLD(2, f) && !OLD(3, f))
#else
#define NONE_BELOW(f) (!OLD(0, f) && !OLD(1, f) && !OLD(2, f))
#endif
#define ROW_FATE(o) (undone[o] -> ROLLEDBACK : fate[owner[o]])
#define LISTED(t) (lock[t] && (lx[t] || moved[t]))

inline take_xid(t)
{
	d_step { xid[t] = nextxid; nextxid++ }
}

/* The transaction leaves the ProcArray, and in the same step its rows count otherwise. */
inline leave(t, what)
{
	d_step {
		fate[t] = what;
		if
		:: xid[t] > completed -> completed = xid[t]
		:: else
		fi;
		xid[t] = 0;
		lx[t] = 0;
		if
		:: what == COMMITTED ->
			c = 1;
			do
			:: c <= MAXO ->
				assert(owner[c] != t || undone[c] || c >= pos || told[c]);
				c++
			:: else -> break
			od;
			c = 0;
#ifdef SEGMENT
			made = made || makes
#endif
		:: else
		fi
	}
}

inline announce(t)
{
#ifdef SEGMENT
	announced = announced || (makes && fate[t] == COMMITTED)
#else
	skip
#endif
}

inline unlock(t)
{
	d_step {
		lock[t] = 0;
		maker[t] = 0;
		moved[t] = 0;
#ifdef SEALING
		in_past = in_past - (on_new -> 0 : 1)
#endif
	}
}

/* The end: commit or rollback, by way of PREPARE TRANSACTION perhaps. */
inline finish(t)
{
	if
	:: leave(t, COMMITTED); announce(t); unlock(t)
	:: leave(t, ROLLEDBACK); unlock(t)
#ifdef PREPARE
	:: gxid[t] = xid[t];		/* the dummy PGPROC is in the ProcArray */
		moved[t] = 1;			/* PostPrepare_Locks */
		d_step { xid[t] = 0; lx[t] = 0 };
		if
		:: leave(t, COMMITTED)
		:: leave(t, ROLLEDBACK)
		fi;
		d_step {
			if
			:: gxid[t] > completed -> completed = gxid[t]
			:: else
			fi;
			gxid[t] = 0
		};
		announce(t);
		unlock(t)
#endif
	fi
}

/* The segment of the present, as the publisher sees it: looked up after the lock. */
inline choose_segment(t, may_make)
{
#ifdef SEGMENT
	if
	:: may_make ->
#ifndef NOMAKER
		maker[t] = 1;
#endif
		d_step { makes = 1; on_new = 1 }
	:: !may_make && made -> on_new = 1
	:: !may_make && !announced
	fi;
#endif
#ifdef SEALING
	/* the clock may be anywhere; the floor is known when it was announced, or by chance */
	if
	:: closed || dropped -> on_new = 1
	:: !closed_announced && !dropped -> in_past++
	:: !closed -> on_new = 1
	fi;
#endif
	skip
}

/* The first publisher of a new epoch moves the sequence there. */
inline begin_epoch()
{
#ifdef EPOCH
	if
	:: seq < BASE ->
		atomic { !moving -> moving = 1 }
#ifdef EPOCHONCE
		seq = BASE;
#else
		if
		:: seq < BASE -> seq = BASE
		:: else
		fi;
#endif
		moving = 0
	:: else
	fi;
#endif
	skip
}

inline draw()
{
	d_step { seq++; o = seq }
}

inline insert(t)
{
	d_step {
#ifdef NOP1
		if
		:: xid[t] == 0 -> xid[t] = nextxid; nextxid++
		:: else
		fi;
#endif
		assert(owner[o] == NOBODY);	/* an offset is given out once */
		owner[o] = t;
		newer[o] = on_new;
		o = 0
	}
}

proctype publisher(byte me)
{
	byte o = 0, m = 0, c = 0;
	bool on_new = 0, makes = 0;

#ifdef COARSE
	d_step { lx[me] = 1; xid[me] = nextxid; nextxid++; lock[me] = 1 }
	choose_segment(me, me == 0);
	do
	:: m < MSGS && me == 0 ->
		draw();
		insert(me);
		m++
	:: m < MSGS && me != 0 ->
		d_step { seq++; o = seq; owner[o] = me; newer[o] = on_new; o = 0 }
		m++
	:: m == MSGS -> break
	od;
	if
	:: atomic { leave(me, COMMITTED); unlock(me) }
	:: atomic { leave(me, ROLLEDBACK); unlock(me) }
	fi;
	goto over;
#endif
	lx[me] = 1;
#ifdef LOOKBEFORE
	choose_segment(me, me == 0);
#endif
#ifndef NOP1
	take_xid(me);				/* p1 */
#endif
#ifdef SAVEPOINT
	if
	:: me == 0 ->
		lock[me] = 1;
		choose_segment(me, false);
		draw();
		if
		:: d_step { owner[o] = me; undone[o] = 1; newer[o] = on_new; o = 0 }
		:: o = 0				/* an error came before the row */
		fi;
		d_step {				/* with the rollback to the savepoint */
			lock[me] = 0;
#ifdef SEALING
			in_past = in_past - (on_new -> 0 : 1);
#endif
#ifndef KEEPSEGMENT
			on_new = 0
#endif
		}
	:: else
	fi;
#endif
#ifdef NORELOCK
	lock[me] = (me != 0);
#else
	lock[me] = 1;				/* p2 */
#endif
	begin_epoch();
#if defined(KEEPSEGMENT)
	in_past = in_past + (on_new -> 0 : 1);
#elif !defined(LOOKBEFORE)
	choose_segment(me, me == 0);
#endif
	do
	:: m < MSGS ->
		draw();					/* p3 */
		insert(me);
		m++
	:: m == MSGS || (m > 0 && me > 0) -> break
	od;
#ifdef PORTALOWNER
	if
	:: me == 0 -> lock[me] = 0; maker[me] = 0	/* a cursor failed in a savepoint */
	:: skip
	fi;
#endif
	finish(me);					/* p4 */
over:
	done++
}

/* The holders of the publishers' lock but for our own transaction, into the bits of L. */
inline list_holders(self)
{
	d_step {
		L = 0;
		i = 0;
		do
		:: i <= T_OWN ->
			L = L | ((LISTED(i) && i != self -> 1 : 0) << i);
			i++
		:: else -> break
		od;
		i = 0
	}
}

/* Their lowest transaction id, each read at its own moment, into oldest; 0: none has one. */
inline oldest_holder()
{
	oldest = 0;
	do
	:: L != 0 ->
		d_step {
			if
			:: !(L & 1) -> x = 0
			:: (L & 1) && lx[i] -> x = xid[i]
			:: else -> x = gxid[i]
			fi;
			if
			:: x != 0 && (oldest == 0 || x < oldest) -> oldest = x
			:: else
			fi;
			L = L >> 1;
			x = 0;
			i = (L == 0 -> 0 : i + 1)
		}
	:: else -> break
	od;
	skip						/* Spin wants no jump to a d_step */
}

#ifdef SEALING
inline read_bounds()
{
	d_step {
		i = 1;
		do
		:: i <= MAXO ->
			if
			:: owner[i] != NOBODY && !newer[i] && ROW_FATE(i) == COMMITTED ->
				low = (low == NOBODY -> i : low);
				high = i
			:: else
			fi;
			i++
		:: else -> break
		od;
		i = 0
	}
}

/* Step 1 of sealing: closes the past. */
proctype closer()
{
#ifndef NOCLOSERLOCK
	maker[T_CLOSER] = 1;
#endif
	closed = 1;
	closed_announced = 1;
	maker[T_CLOSER] = 0;
	done++
}

/* Steps 2 and 3, which another session may do; then retention. */
proctype sealer()
{
	byte F = 0, L = 0, i = 0, x = 0, oldest = 0, low = NOBODY, high = 0;

#ifdef ONESTEP
	F = nextxid;
	run closer();
	closed_announced;
#else
	run closer();
	closed;
	!maker[T_CLOSER];			/* the conditional Share; the next run tries again */
	F = nextxid;
#endif
#ifdef OLDSNAPSHOT
	read_bounds();
#endif
#ifdef ATONCE
	d_step { NONE_BELOW(F); F = 0 }
#else
	do
	:: list_holders(T_NONE);
		oldest_holder();
		if
		:: oldest == 0 || oldest >= F -> break
		:: else
		fi
	od;
	F = 0;
#endif
#ifndef OLDSNAPSHOT
	read_bounds();
#endif
	d_step { sealed = 1; lowest = low; highest = high; oldest = 0 };
#ifdef DROP
	/* under all its locks: nobody writes there, nobody has the position */
	d_step {
		in_past == 0 && !plocked ->
		dropped = 1;
		x = high + 1;			/* what there is of other segments has that offset or a higher one */
		i = 1;
		do
		:: i <= MAXO ->
			if
			:: owner[i] != NOBODY && !newer[i] -> told[i] = 1
			:: owner[i] != NOBODY && newer[i] && ROW_FATE(i) != ROLLEDBACK && i < x -> x = i
			:: else
			fi;
			i++
		:: else -> break
		od;
#ifndef DROPUNWRITTEN
		/* what is drawn and not written yet may have a lower one */
		i = 0;
		do
		:: i <= T_OWN ->
			if
			:: LISTED(i) && x > pstable -> x = pstable
			:: else
			fi;
			i++
		:: else -> break
		od;
#endif
		earliest = (x > earliest -> x : earliest);
		pos = (pos < earliest -> earliest : pos);
		i = 0;
		x = 0
	};
#endif
	done++
}
#endif

/* iotmq_stable_refresh */
inline refresh(self)
{
	d_step { refused = 0; oldest = 0 }
#ifdef EARLYF
	F = nextxid;
#endif
#ifdef SHAREFIRST
	d_step { request_share(self) }
#endif
	H = seq;					/* r1 */
	if
	:: H < stable
#ifndef OWNLEARNS
	:: H >= stable && lock[self]	/* its own lock is in no list */
#endif
	:: else ->
		list_holders(self);		/* r2 */
		oldest_holder();
#ifndef SHAREFIRST
		d_step { request_share(self) };
#endif
		if
		:: refused
		:: !refused && oldest == 0 -> d_step { stable = H + 1; sample = 0 }
		:: !refused && oldest != 0 ->
			d_step {
				if
				:: sample != 0 && oldest >= sxid -> stable = sample + 1; sample = 0
				:: else
				fi
			};
			if
			:: sample == 0 && H >= stable ->
				d_step {
					sample = H;
#if defined(EARLYF)
					sxid = F
#elif defined(XMAX)
					sxid = completed + 1
#else
					sxid = nextxid	/* r3 */
#endif
				}
			:: else
			fi
		fi
	fi;
	d_step { H = 0; F = 0; refused = 0; oldest = 0 }
}

inline request_share(self)
{
	do
	:: i < NTX -> refused = refused || (maker[i] && i != self); i++
	:: else -> break
	od;
	i = 0
}

/* Goes to offset i of the segments' indexes. */
#if defined(SEALING)
#define VISIBLE(o) (owner[o] != NOBODY && (newer[o] || (!dropped && (!knows || lowest <= o && o <= highest))))
#elif defined(SEGMENT)
#define VISIBLE(o) (owner[o] != NOBODY && (!newer[o] || knows))
#else
#define VISIBLE(o) (owner[o] != NOBODY)
#endif

inline read_indexes()
{
#ifdef ATONCE
	d_step {
		i = p;
		do
		:: i <= MAXO -> seen[i] = VISIBLE(i); i++
		:: else -> break
		od;
		i = 0
	}
#else
	i = p;
	do
	:: i <= MAXO -> d_step { seen[i] = VISIBLE(i); i++ }
	:: else -> break
	od;
	i = 0
#endif
}

#ifdef PROVESALWAYS
#define PROVES true
#else
#define PROVES from <= lim
#endif

inline store()
{
	if
	:: keep ->
		pos = p;
		pstable = (stable > pstable -> stable : pstable);
		/* iotmq_stable_merge, the other way round */
		if
		:: psample == 0 || psample < pstable ->
			psample = (sample >= pstable -> sample : 0);
			pxid = (psample != 0 -> sxid : 0)
		:: else
		fi;
		i = 1;
		do
		:: i < pos && i <= MAXO ->
			assert(owner[i] == NOBODY || ROW_FATE(i) == ROLLEDBACK || told[i]);
			i++
		:: else -> break
		od
	:: else
	fi;
	plocked = plocked && !holds
}

/* What a round leaves behind in variables would only make more states. */
inline forget()
{
	i = 1;
	do
	:: i <= MAXO -> seen[i] = 0; i++
	:: else -> break
	od;
	i = 0; p = 0; last = 0; lim = 0; st = 0; from = 0; again = 0; holds = 0; keep = 1
}

/* What its own transaction read counts when that commits. */
inline deliver()
{
#ifdef OWN
	d_step {
		if
		:: self == T_OWN -> took = took | (1 << p)
		:: else -> told[p] = 1
		fi;
		p++
	}
#else
	d_step { told[p] = 1; p++ }
#endif
}

#ifdef OWN
/* Goes on while the session does something else: COMMIT of a prepared transaction, of another one. */
proctype finisher(bool makes; bool on_new)
{
	byte c = 0;

	if
	:: leave(T_OWN, COMMITTED)
	:: leave(T_OWN, ROLLEDBACK)
	fi;
	gxid[T_OWN] = 0;
	announce(T_OWN);
	unlock(T_OWN);
	done++
}

/* The end of the reader's own transaction, and of the round in it. */
inline finish_own()
{
	if
	:: o != 0 -> insert(self)
	:: else
	fi;
	if
	:: fetches ->
		d_step { took = 0; keep = 0; fetches = 0 };
#ifdef PREPARE
		if
		:: gxid[self] = xid[self];
			moved[self] = 1;
			d_step { xid[self] = 0; lx[self] = 0 };
			run finisher(makes, on_new)
		:: finish(self); done++
		fi
#else
		finish(self);
		done++
#endif
	:: !fetches ->
		if
		:: atomic {
				leave(self, COMMITTED);
				i = 1;
				do
				:: i <= MAXO -> told[i] = told[i] || ((took >> i) & 1); i++
				:: else -> break
				od;
				i = 0
			}
		:: d_step { leave(self, ROLLEDBACK); keep = 0 }
		fi;
		took = 0;
		announce(self);
		unlock(self);
		done++
	fi;
	d_step { self = T_NONE; makes = 0; on_new = 0 }
}
#endif

proctype reader(byte id; byte rounds)
{
	/* ZoneMemory: it lives as long as the backend */
	byte stable = 0, sample = 0, sxid = 0;
	bool knows = 0;				/* in its catalog: segment 1, or that segment 0 is sealed */
	bool heard = 0;				/* the announcement */
	bool seen[MAXO + 1];
	byte self = T_NONE, from, p, last, lim, st, H = 0, F = 0, L = 0, oldest = 0, x = 0, i = 0;
	bool again, stale, refused = 0, keep = 1, holds = 0;
#ifdef OWN
	byte o = 0, c = 0, took = 0;
	bool on_new = 0, makes = 0, fetches = 0;

	/* a transaction that publishes, and reads before or after its row is there */
	if
	:: id == 0 ->
		d_step { self = T_OWN; lx[self] = 1; xid[self] = nextxid; nextxid++; lock[self] = 1 }
		choose_segment(self, 1);
		knows = on_new;
		draw();
		if
		:: insert(self)
		:: skip
		fi;
		if
		:: fetches = 1
		:: skip
		fi
	:: else
	fi;
#endif

	do
	:: rounds > 0 ->
		rounds--;
		/* a lookup in the catalog */
#if defined(SEGMENT)
		d_step {
			if
			:: announced && !heard -> heard = 1; knows = 1
			:: else
			fi
		};
		if
		:: made && !knows -> knows = 1	/* loaded again for another reason */
		:: skip
		fi;
#elif defined(SEALING)
		if
		:: sealed && !knows -> knows = 1
		:: skip
		fi;
#endif
		atomic {
#ifdef OWN
			if
			:: fetches
			:: !fetches && !plocked -> plocked = 1; holds = 1
			fi;
#else
			!plocked -> plocked = 1; holds = 1;
#endif
			/* iotmq_stable_merge */
			d_step {
				p = pos;
				stable = (pstable > stable -> pstable : stable);
				sample = (sample < stable -> 0 : sample);
				if
				:: sample == 0 && psample != 0 && psample >= stable && pxid <= nextxid ->
					sample = psample;
					sxid = pxid
				:: else
				fi
			}
		}
		last = seq;
#ifdef AHEAD
		if
		:: id == 0 && rounds == ROUNDS - 1 -> p = last + 1; keep = 0	/* for a group that begins at the end */
		:: else
		fi;
#endif
		d_step { from = p; lim = stable; again = 1 }
		do
		:: again ->
			again = 0;
			read_indexes()
		:: !again && p > last -> break
		:: !again && p <= last && seen[p] ->
			if
			:: ROW_FATE(p) == OPEN -> break
			:: ROW_FATE(p) == COMMITTED -> deliver()
			:: ROW_FATE(p) == ROLLEDBACK -> p++
			fi
		:: !again && p <= last && !seen[p] ->
			/* resolve_gap */
			st = lim;
			if
			:: p >= lim ->
#if defined(STALEFIRST) && defined(SEGMENT)
				stale = announced && !heard;
#endif
				refresh(self);
				st = stable
			:: else
			fi;
			if
			:: st <= p -> break
			:: else
			fi;
#if defined(SEGMENT) && !defined(STALEFIRST) && !defined(NOSTALE)
			stale = announced && !heard;
#endif
			if
			:: stale -> break
			:: else
			fi;
			if
			:: st > lim ->
				lim = st;
#ifndef NORESEEK
				again = 1
#endif
			:: else ->
				d_step {
					do
					:: p < lim && p <= last && !seen[p] -> p++
					:: else -> break
					od
				}
			fi
		od;
		/* iotmq_scan_end */
		stale = 0;
		d_step {
			if
			:: (PROVES) && p > stable -> stable = p
			:: else
			fi
		}
#ifdef OWN
		if
		:: self == T_OWN -> finish_own()
		:: else
		fi;
#endif
		d_step { store(); forget() }
	:: else -> break
	od;
	done++
}

#ifdef SEALING
#define OTHERS 2
#elif defined(OWN)
#define OTHERS 1
#else
#define OTHERS 0
#endif

init
{
	byte i;

	d_step {
		i = 0;
		do
		:: i <= MAXO -> owner[i] = NOBODY; i++
		:: else -> break
		od
	}
	atomic {
		i = 0;
		do
		:: i < NPUB -> run publisher(i); i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < NREAD -> run reader(i, ROUNDS); i++
		:: else -> break
		od;
#ifdef SEALING
		run sealer();
#endif
		i = 0
	}
	/* once all is quiet two rounds deliver the rest */
	done == NPUB + NREAD + OTHERS;
	atomic { done = 0; run reader(NREAD, 2) }
	done == 1;
	d_step {
		assert(pos == seq + 1);
		i = 1;
		do
		:: i <= MAXO ->
			assert(owner[i] == NOBODY || ROW_FATE(i) != COMMITTED || told[i]);
			i++
		:: else -> break
		od
	}
}
