/*-------------------------------------------------------------------------
 *
 * pool.pml
 *		Model of the admission protocol, for spin: pool.c, turns.c, and the
 *		slots of session.c.
 *
 * test/hardening/model.sh checks it, with all the configurations below, by
 * visiting every state.  The comments "step: NAME" stand beside the same
 * comment in the C code: what happens between two of them is seen by nobody
 * else (it is local, or guarded by the pool's lock), and each of them is one
 * atomic operation there and one atomic step here.  A loop that repeats a
 * compare-and-swap until it succeeds is one step, since nothing is left of the
 * attempts that fail.
 *
 * What must hold:
 *
 * - A session has at most one slot of a pool, and nobody gives back what
 *	 nobody has (the counts own[], "ours" below).
 * - A slot that is not taken by force is within the limit.
 * - Nobody sleeps for ever: there are no timeouts here but those that are
 *	 counted in FAULTS, and no launcher that looks every 100 ms, so that a
 *	 wake-up that is lost ends in a state that nobody leaves, which spin
 *	 reports.
 * - When all is over the word is what the slots that are kept say, nobody is
 *	 queued, and no flag is set.
 *
 * What is left out, since it changes who comes first but not whether somebody
 * comes: the order of the queue (whoever is granted a slot is any of those who
 * wait; test_wait_queue.c has the order), and time (what may expire does so,
 * or not).  Caps: a class that a cap held back is looked after by the
 * launcher's tick.  Memory is sequentially consistent here: where the C code
 * needs a barrier for that, a mutation shows what happens without it.
 *
 * Configurations, by -D: NP sessions with TX transactions each; LIMIT slots,
 * and with BULKHEAD one of them in a pool that is passed before; MAXW may
 * wait; CLASSES of priority; FAULTS cancels, terminations, timeouts, clients
 * that are gone, or late waiters; FORCES transactions that must not wait;
 * TURNS: slots that are kept between transactions; LENDS visits of the
 * launcher that lends slots; THROUGHS visits of the launcher that lets a waiter
 * through; BATCH is WAKE_BATCH.
 *
 * MUTATE=n breaks the protocol, to see that it is noticed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NP
#define NP 3
#endif
#ifndef TX
#define TX 1
#endif
#ifndef LIMIT
#define LIMIT 1
#endif
#ifndef MAXW
#define MAXW NP
#endif
#ifndef CLASSES
#define CLASSES 1
#endif
#ifndef FAULTS
#define FAULTS 0
#endif
#ifndef FORCES
#define FORCES 0
#endif
#ifndef TURNS
#define TURNS 0
#endif
#ifndef LENDS
#define LENDS 0
#endif
#ifndef THROUGHS
#define THROUGHS 0
#endif
#ifndef BATCH
#define BATCH 8
#endif
#ifndef MUTATE
#define MUTATE 0
#endif
#ifdef BULKHEAD
#define POOLS 2
#else
#define POOLS 1
#endif

#define SERVER 0				/* pool 1 is the bulkhead */
#define LIMIT_OF(pl) ((pl) == SERVER -> LIMIT : 1)

/* verdicts */
#define WAITING 0
#define GRANTED 1
#define REFUSED 2				/* timed out, dropped, preempted */

/* states of a slot */
#define FREE 0
#define HELD 1
#define LENT 2
#define KEPT 3

/* the pool's word: how many run, and who waits */
byte running[POOLS];
bool flag[POOLS * 2];

/* under the pool's lock */
bool lock[POOLS];
byte queue[POOLS];				/* bit p: session p waits */

/* sessions */
byte verdict[NP];
byte waiting_for[NP];			/* pool + 1 */
bool latch[NP];
byte units[NP];					/* bit: a slot of this pool was taken */
byte slot[NP];					/* a state of the slot ... */
byte seq[NP];					/* ... and its number */
bool idle[NP];					/* what pgstat says */

/* turns */
byte in_turn[NP];				/* a mark; each session has a place here */
byte nturns;
byte watchman;					/* session + 1 */

/* ours: to check, not in the C code */
byte own[POOLS * NP];			/* slots that session p has to give back */
byte hands[POOLS];				/* ... and those that others took from it */
byte faults = FAULTS;
byte forces = FORCES;
byte done;

#define OWN(pl, p) own[(pl) * NP + (p)]
#define FLAG(pl, c) flag[(pl) * 2 + (c)]
#define CLASS(p) (CLASSES == 2 -> (p) & 1 : 0)
#define OF_CLASS(c) (CLASSES == 2 -> ((c) -> 170 : 85) : ((c) -> 0 : 255))
#define QUEUED(pl, p) ((queue[pl] >> (p)) & 1)
#define SOMEBODY(pl) (FLAG(pl, 0) || FLAG(pl, 1))
#define FROM(pl, c) (FLAG(pl, 1) || ((c) == 0 && FLAG(pl, 0)))
#define ROOM(pl) (running[pl] < LIMIT_OF(pl))
#define HOW_MANY(q) (((q) & 1) + (((q) >> 1) & 1) + (((q) >> 2) & 1) + (((q) >> 3) & 1))
#define IS_KEPT(p) ((p) < NP && slot[p] == KEPT && in_turn[p] != 0)

/* the numbers of a slot never repeat; those of a mark are the transaction's */
#if MUTATE == 8
#define MARK(p) 1
#else
#define MARK(p) seq[p]
#endif

inline acquire(pl)
{
	atomic { !lock[pl] -> lock[pl] = true }
}

inline release_lock(pl)
{
	lock[pl] = false
}

/* count a slot for session p */
inline count(pl, p)
{
	running[pl]++;
	assert(OWN(pl, p) == 0);
	OWN(pl, p) = 1
}

inline pick(from)
{
	if
	:: from & 1 -> w = 0
	:: from & 2 -> w = 1
	:: from & 4 -> w = 2
	:: from & 8 -> w = 3
	fi
}

inline wake_all(pl)
{
	d_step {
		for (w : 0 .. NP - 1) {
			if
			:: (woken >> w) & 1 -> latch[w] = true
			:: else
			fi
		}
		woken = 0;
		w = 0
	}
}

/* choose_watchman(): any of those who wait */
inline choose_watchman()
{
#if MUTATE == 7
	busy = nturns > 0;			/* without the barrier the load may come first */
#endif
	atomic {					/* step: watchman-write */
		if
		:: queue[SERVER] == 0 -> x = 0
		:: else -> pick(queue[SERVER]); x = w + 1
		fi;
		watchman = x
	}
#if MUTATE != 7
	busy = nturns > 0;			/* step: watchman-look */
#endif
	if
	:: x != 0 && busy -> latch[x - 1] = true
	:: else
	fi;
	x = 0; busy = false
}

/* update_wait_flag() and what follows when a waiter is taken out */
inline after_removal(pl, p)
{
	atomic {					/* step: flag-clear */
		queue[pl] = queue[pl] & (255 - (1 << (p)));
		if
		:: (queue[pl] & OF_CLASS(CLASS(p))) == 0 -> FLAG(pl, CLASS(p)) = false
		:: else
		fi
	}
	if
	:: TURNS && pl == SERVER && watchman == p + 1 -> y = p; choose_watchman(); w = y; y = 0
	:: else
	fi
}

inline settle(pl, p, v)
{
#if MUTATE == 3
	latch[p] = true;			/* the latch before the verdict */
#endif
	after_removal(pl, p);
	verdict[p] = v				/* step: settle-verdict */
}

/* dispatch_locked(): hand slots to waiters; sets n and woken */
inline dispatch_locked(pl, room)
{
	do
	:: true ->
#if MUTATE == 5
		if						/* looks, and then adds */
		:: !ROOM(pl) -> break
		:: else
		fi;
#endif
		atomic {				/* step: dispatch-grant */
			if
			:: n >= room || queue[pl] == 0 -> break
#if MUTATE != 5
			:: !(SOMEBODY(pl) && ROOM(pl)) -> break
#endif
			:: else ->
				pick(queue[pl]);
				if
				:: faults > 0 -> faults--; v = REFUSED	/* rsl_waiter_too_late() */
				:: true ->
					count(pl, w);
					assert(running[pl] <= LIMIT_OF(pl));
					v = GRANTED
				fi
			fi
		}
		after_removal(pl, w);
#if MUTATE == 3
		latch[w] = true;
#endif
		verdict[w] = v;			/* step: dispatch-verdict */
#if MUTATE != 3
		woken = woken | (1 << w);
#endif
		n++;
		w = 0; v = 0
	od
}

inline dispatch(pl)
{
	do
	:: true ->
		acquire(pl);
		n = 0;
		dispatch_locked(pl, BATCH);
		release_lock(pl);
		wake_all(pl);
		if
		:: n < BATCH -> break
		:: else
		fi
	od;
	n = 0
}

/* rsl_pool_give(); the caller has said whose slot it was */
inline give(pl)
{
	atomic {					/* step: give-subtract */
		assert(running[pl] > 0);
		running[pl]--;
		busy = SOMEBODY(pl) && ROOM(pl)
	}
	if
	:: busy -> busy = false; dispatch(pl)
	:: else
	fi
}

inline mine_given(pl)
{
	assert(OWN(pl, me) == 1);
	OWN(pl, me) = 0
}

/*
 * rsl_turn_reclaim(): "all" is for the watchman, who looks until something has
 * expired; sets got.
 */
inline reclaim(all)
{
	got = false;
	for (i : 0 .. NP - 1) {
		if
		:: in_turn[i] == 0 -> skip
		:: !all -> skip			/* not expired, and not of a lower class */
		:: else ->
			m = in_turn[i];		/* step: reclaim-mark */
			atomic { s = slot[i]; q = seq[i] }	/* step: reclaim-slot */
			if
			:: m == 0
			:: m != 0 && s == KEPT ->
				atomic {		/* step: reclaim-take */
					if
					:: slot[i] == KEPT && seq[i] == q ->
						slot[i] = FREE;
						seq[i]++;
						assert(OWN(SERVER, i) == 1);
						OWN(SERVER, i) = 0;
						hands[SERVER]++;
						s = FREE
					:: else -> m = 0
					fi
				};
				if
				:: m != 0 ->
					running[SERVER]--;	/* step: reclaim-subtract */
					hands[SERVER]--;
					got = true
				:: else
				fi
			:: m != 0 && s == HELD -> m = 0	/* it runs, or is about to keep it */
			:: else				/* FREE: nobody needs the mark */
			fi;
			if
			:: m != 0 ->
				atomic {		/* step: reclaim-forget */
					if
					:: in_turn[i] == m -> in_turn[i] = 0; busy = true
					:: else -> busy = false
					fi
				}
				if
				:: busy -> nturns--; busy = false	/* step: turns-fewer */
				:: else
				fi
			:: else
			fi
		fi
	}
	i = 0; m = 0; s = 0; q = 0
}

/* leave() and rsl_turn_forget() of turns.c */
inline leave_turn()
{
	atomic {					/* step: leave-mark */
		busy = in_turn[me] != 0 && in_turn[me] == mark;
		if
		:: busy -> in_turn[me] = 0
		:: else
		fi;
		mark = 0
	}
	if
	:: busy -> nturns--; busy = false	/* step: turns-fewer */
	:: else
	fi
}

/* enter() of turns.c */
inline enter_turn()
{
	atomic {					/* step: enter-mark */
		busy = in_turn[me] == 0;
		if
		:: in_turn[me] == 0 || in_turn[me] == mark -> mark = MARK(me); in_turn[me] = mark
		fi
	}
	if
	:: busy ->
		atomic { nturns++; busy = nturns == 1 }	/* step: turns-more */
		if
		:: busy ->
			x = watchman;		/* step: enter-watchman */
			if
			:: x != 0 -> latch[x - 1] = true
			:: else
			fi;
			x = 0; busy = false
		:: else
		fi
	:: else
	fi
}

/* release() of session.c */
inline release(may_keep)
{
	u = units[me];
	units[me] = 0;
	atomic { s = slot[me]; q = seq[me] }	/* step: release-read */
	got = false;
	if
	:: TURNS && may_keep && (u & 1) && s == HELD && SOMEBODY(SERVER) ->
		pending = true;
		enter_turn();
		atomic {				/* step: release-keep */
			if
			:: slot[me] == HELD && seq[me] == q -> slot[me] = KEPT; seq[me]++; got = true
			:: else -> s = slot[me]
			fi
		}
#if MUTATE == 6
		u = u & 2				/* whether it is kept or not */
#else
		if
		:: got -> u = u & 2
		:: else
		fi
#endif
	:: TURNS && s == HELD -> leave_turn()
	:: else
	fi;
	if
	:: !got && s != FREE ->
		atomic {				/* step: release-free */
			s = slot[me];
			slot[me] = FREE;
			seq[me]++
		}
		if
		:: s == KEPT -> mine_given(SERVER); give(SERVER)
		:: else
		fi
	:: else
	fi;
	if
#if MUTATE != 9
	:: s == LENT -> skip		/* the launcher has given it back */
#endif
	:: else ->
		if
		:: u & 1 -> mine_given(SERVER); give(SERVER)
		:: else
		fi;
#ifdef BULKHEAD
		if
		:: u & 2 -> mine_given(1); give(1)
		:: else
		fi
#endif
	fi;
	u = 0; s = 0; q = 0; got = false
}

active [NP] proctype session()
{
	byte me = _pid;
	byte tx, pool, n, w, v, x, y, u, i, m, s, q, woken, mark;
	bool got, busy, pending, denied, watch;

next:
	if
	:: tx == TX -> goto end_of_session
	:: else -> tx++; pool = POOLS
	fi;

	/* rsl_admit_transaction(): the narrow pool first */
admit:
	if
	:: pool == 0 -> goto runs
	:: else -> pool--
	fi;

	/* rsl_turn_resume() */
	if
	:: TURNS && pool == SERVER && pending ->
		pending = false;
		atomic {				/* step: resume-take */
			if
			:: slot[me] == KEPT -> slot[me] = FREE; seq[me]++; got = true
			:: else -> got = false
			fi
		}
		if
		:: got -> got = false;
			if
			:: units[me] = units[me] | 1; goto admit
			:: mine_given(SERVER); give(SERVER)	/* it was of another class */
			fi
		:: else
		fi
	:: else
	fi;

	/* rsl_pool_try_take() */
	atomic {					/* step: take-if-free */
		if
		:: !FROM(pool, CLASS(me)) && ROOM(pool) ->
			count(pool, me);
			units[me] = units[me] | (1 << pool);
			goto admit
		:: else
		fi
	}

	/* take_slot_slowly(), rsl_pool_force_take() */
	if
	:: atomic { forces > 0 -> forces-- } ->
		atomic {				/* step: force-take */
			count(pool, me);
			units[me] = units[me] | (1 << pool)
		}
		goto admit
	:: true
	fi;
#if TURNS && defined(BULKHEAD)
	/* rsl_turn_give_up() */
	if
	:: pool == 1 && pending ->
		pending = false;
		atomic {				/* step: give-up-take */
			if
			:: slot[me] == KEPT -> slot[me] = FREE; seq[me]++; got = true
			:: else
			fi
		}
		if
		:: got -> got = false; mine_given(SERVER); give(SERVER)
		:: else
		fi
	:: else
	fi;
#endif

	/* rsl_pool_wait() */
	acquire(pool);
	if
	:: TURNS && pool == SERVER && nturns > 0 ->
		if
		:: reclaim(true)
		:: reclaim(false)
		fi;
		if
		:: got -> dispatch_locked(SERVER, BATCH - 1)
		:: else
		fi
	:: else
	fi;
	atomic {					/* step: take-if-free */
		if
		:: !FROM(pool, CLASS(me)) && ROOM(pool) ->
			count(pool, me);
			units[me] = units[me] | (1 << pool);
			got = true
		:: else -> got = false
		fi
	}
	if
	:: got ->
		got = false;
		goto not_queued
	:: else
	fi;
	if
	:: HOW_MANY(queue[pool]) >= MAXW ->
		if
		:: CLASSES == 2 && CLASS(me) == 1 && (queue[pool] & OF_CLASS(0)) ->
			x = queue[pool] & OF_CLASS(0);	/* preempted while waiting */
			pick(x);
			x = 0;
			settle(pool, w, REFUSED);
			woken = woken | (1 << w);
			w = 0;
			n++
		:: else -> denied = true; goto not_queued
		fi
	:: else
	fi;

	atomic {					/* step: queue */
		verdict[me] = WAITING;
		waiting_for[me] = pool + 1;
		queue[pool] = queue[pool] | (1 << me)
	}
	if
	:: TURNS && pool == SERVER && watchman == 0 -> choose_watchman()
	:: else
	fi;
#if MUTATE == 1
	n = 0;
	dispatch_locked(pool, BATCH);	/* before the flag can be seen */
#endif
	FLAG(pool, CLASS(me)) = true;	/* step: flag-set */
#if MUTATE != 1 && MUTATE != 2
	dispatch_locked(pool, BATCH);
#endif
	release_lock(pool);
	woken = woken & (255 - (1 << me));
	wake_all(pool);
	if
	:: n >= BATCH -> dispatch(pool)
	:: else
	fi;
	n = 0;

	/* wait_for_verdict() */
wait:
	if
	:: verdict[me] != WAITING -> goto decided	/* step: verdict-read */
	:: else
	fi;
	watch = TURNS && pool == SERVER && watchman == me + 1 && nturns > 0;	/* step: watchman-read */
	if
	:: latch[me] -> latch[me] = false
	:: atomic { faults > 0 -> faults-- } ->	/* the time is over */
		acquire(pool);
		if
		:: QUEUED(pool, me) -> settle(pool, me, REFUSED)
		:: else
		fi;
		release_lock(pool)
	:: atomic { faults > 0 -> faults-- } -> watch = false; goto abandon
	:: watch && nturns == 0
	:: watch && (IS_KEPT(0) || IS_KEPT(1) || IS_KEPT(2) || IS_KEPT(3)) ->
		reclaim(true);
		if
		:: got -> got = false;
#if MUTATE != 11
			dispatch(SERVER)
#endif
		:: else
		fi
	fi;
	watch = false;
	goto wait;

decided:
	if
	:: verdict[me] == GRANTED ->
		if
		:: atomic { waiting_for[me] = 0; units[me] = units[me] | (1 << pool) };
			goto admit
		:: atomic { faults > 0 -> faults-- } -> goto abandon	/* on_wake() throws */
		fi
	:: else -> waiting_for[me] = 0; goto refused
	fi;

	/* rsl_pool_abandon_wait() */
abandon:
	acquire(pool);
	if
	:: QUEUED(pool, me) -> settle(pool, me, REFUSED)
	:: else
	fi;
	got = verdict[me] == GRANTED;
	waiting_for[me] = 0;
	release_lock(pool);
	if
#if MUTATE == 4
	:: got -> got = false; mine_given(pool); running[pool]--	/* passes it on to nobody */
#else
	:: got -> got = false; mine_given(pool); give(pool)
#endif
	:: else
	fi;
	goto refused;

	/* neither queued; granted unless denied */
not_queued:
	wake_all(pool);
	release_lock(pool);
	if
#if MUTATE != 12
	:: n >= BATCH - 1 -> dispatch(pool)	/* there may be more */
#endif
	:: else
	fi;
	n = 0;
	if
	:: denied -> denied = false
	:: else -> goto admit
	fi;

refused:
	release(false);
	goto next;

runs:
	assert(OWN(SERVER, me) == 1);
	atomic { slot[me] = HELD; seq[me]++ }	/* step: hold */
#if LENDS
	/* idle in transaction for a while */
	if
	:: idle[me] = true;
		idle[me] = false;
		if
		:: slot[me] == LENT ->
			atomic {			/* step: take-back */
				if
				:: slot[me] == LENT -> slot[me] = HELD; seq[me]++; got = true
				:: else
				fi
			}
			if
			:: got ->
				got = false;
				atomic { count(SERVER, me) }	/* step: force-take */
#ifdef BULKHEAD
				atomic { count(1, me) }
#endif
			:: else
			fi
		:: else
		fi
	:: true
	fi;
#endif
	if
	:: release(true)
	:: release(false)			/* its turn is over, or it failed */
	fi;
	goto next;

end_of_session:
	if
	:: true						/* stays connected, and does nothing */
	:: release(false);			/* session_exit() */
#if TURNS
		leave_turn();
		assert(in_turn[me] == 0)
#endif
	fi;
	done++
}

#if LENDS
/* rsl_session_lend() */
active proctype lender()
{
	byte p, u, s, q, n, w, v, x, y, woken, lends;
	bool busy;

	do
	:: lends == LENDS -> break
	:: else ->
		lends++;
		if
		:: p = 0
		:: NP > 1 -> p = 1
		:: NP > 2 -> p = 2
		fi;
		atomic { s = slot[p]; q = seq[p] }	/* step: lend-read */
		if
		:: s == HELD && idle[p] ->
			u = units[p];
			atomic {			/* step: lend-take */
				if
				:: u != 0 && slot[p] == HELD && seq[p] == q ->
					slot[p] = LENT;
					seq[p]++;
					q = seq[p];
					if
					:: u & 1 -> assert(OWN(SERVER, p) == 1); OWN(SERVER, p) = 0; hands[SERVER]++
					:: else
					fi;
#ifdef BULKHEAD
					if
					:: u & 2 -> assert(OWN(1, p) == 1); OWN(1, p) = 0; hands[1]++
					:: else
					fi
#endif
				:: else -> u = 0
				fi
			}
			busy = idle[p];
			if
			:: u != 0 && !busy ->
				atomic {		/* step: lend-undo */
					if
					:: slot[p] == LENT && seq[p] == q ->
						slot[p] = HELD;
						seq[p]++;
						if
						:: u & 1 -> OWN(SERVER, p) = 1; hands[SERVER]--
						:: else
						fi;
#ifdef BULKHEAD
						if
						:: u & 2 -> OWN(1, p) = 1; hands[1]--
						:: else
						fi;
#endif
						u = 0
					:: else
					fi
				}
			:: else
			fi;
			if
			:: u & 1 -> hands[SERVER]--; give(SERVER)
			:: else
			fi;
#ifdef BULKHEAD
			if
			:: u & 2 -> hands[1]--; give(1)
			:: else
			fi;
#endif
		:: else
		fi;
		u = 0; s = 0; q = 0; p = 0
	od;
	done++
}
#endif

#if THROUGHS
/* rsl_pool_let_through(), by the launcher or by the waiter itself */
active proctype lets_through()
{
	byte p, w, x, y, throughs;
	bool busy;

	do
	:: throughs == THROUGHS -> break
	:: else ->
		throughs++;
		if
		:: p = 0
		:: NP > 1 -> p = 1
		fi;
		if
		:: waiting_for[p] == SERVER + 1 ->
			acquire(SERVER);
			if
#if MUTATE == 13
			:: waiting_for[p] == SERVER + 1 ->
#else
			:: QUEUED(SERVER, p) && waiting_for[p] == SERVER + 1 ->
#endif
				atomic { count(SERVER, p) }	/* step: through-add */
				settle(SERVER, p, GRANTED);
				release_lock(SERVER);
				latch[p] = true
			:: else -> release_lock(SERVER)
			fi
		:: else
		fi
	od;
	done++
}
#endif

/* When all have come to their end. */
active proctype balance()
{
	byte pl, p, sum;

	done == NP + (LENDS > 0 -> 1 : 0) + (THROUGHS > 0 -> 1 : 0);
	d_step {
		for (pl : 0 .. POOLS - 1) {
			sum = 0;
			for (p : 0 .. NP - 1) {
				sum = sum + OWN(pl, p);
				assert(OWN(pl, p) == 0 || (pl == SERVER && slot[p] == KEPT))
			}
			assert(running[pl] == sum);
			assert(hands[pl] == 0);
			assert(queue[pl] == 0);
			assert(!SOMEBODY(pl));
			assert(!lock[pl])
		}
		sum = 0;
		for (p : 0 .. NP - 1) {
			sum = sum + (in_turn[p] != 0 -> 1 : 0);
			assert(slot[p] != KEPT || in_turn[p] != 0)
		}
		assert(nturns == sum)
	}
}

#ifdef LIVE
/* who waits is granted a slot, or gets another verdict, at last */
ltl served { [] ((queue[SERVER] & 1) -> <> ((queue[SERVER] & 1) == 0)) }
#endif
