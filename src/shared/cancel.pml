/*-------------------------------------------------------------------------
 *
 * cancel.pml
 *		Model of how exactly one statement of another session is cancelled, for
 *		spin: cancel.c and cancel.h.
 *
 * test/hardening/model.sh checks it; see pool.pml for what "step: NAME" means.
 *
 * A victim runs STATEMENTS statements.  CANCELLERS choose one each, whose
 * number they have read, and request its cancel.  The victim's signal handlers
 * are processes that may run between any two of its steps, while it does
 * nothing itself: "handling" stops it.  USER = 1: a user cancels too, once, at
 * any time.  CATCH = 1: functions may catch the cancel.
 *
 * What must hold:
 *
 * - No statement but the one that was requested fails by a request.
 * - A user's cancel, or its error, is not lost.
 * - Each request is counted once, as delivered or as missed, when the next
 *	 statement begins or the session ends.
 * - No cancel of ours is left for the next statement.
 *
 * MUTATE=n breaks the protocol, to see that it is noticed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STATEMENTS
#define STATEMENTS 2
#endif
#ifndef CANCELLERS
#define CANCELLERS 1
#endif
#ifndef USER
#define USER 0
#endif
#ifndef CATCH
#define CATCH 0
#endif
#ifndef MUTATE
#define MUTATE 0
#endif

/* shared */
byte statement;					/* odd while one runs */
byte doom;						/* number of the statement, 0 = no request */

/* the victim's */
byte struck;					/* the request that has struck */
bool others_cancel;
bool pending;					/* QueryCancelPending */
bool was_caught;

/* signals on their way, and a handler that runs */
byte sigusr2;
bool sigint;
bool handling;

/* ours: to check */
byte requested;
byte delivered;
byte missed;
byte cancellers_done;
bool user_has_cancelled;
bool user_was_served;
bool over;

/* the victim's steps: not while a handler runs in its process */
#define MINE atomic { !handling ->

inline count_missed(d)
{
	if
	:: d != 0 -> missed++
	:: else
	fi
}

/* withdraw() and take_request() */
inline settle()
{
	if
#if MUTATE != 2
	:: struck != 0 ->
		MINE struck = 0; was_caught = false };	/* step: withdraw */
		MINE pending = false };
#if MUTATE != 3
		MINE
			if
			:: others_cancel -> pending = true
			:: else
			fi
		};
#endif
		MINE assert(!others_cancel || pending) }
#endif
	:: else
	fi;
	MINE d = doom; doom = 0 };	/* step: take-request */
	count_missed(d);
	d = 0
}

active proctype victim()
{
	byte n, d, now;
	bool failed, ours;

	do
	:: n == STATEMENTS -> break
	:: else ->
		n++;
		/* a user's cancel hits what runs, or is ignored when nothing does */
		MINE
			if
			:: pending && others_cancel -> user_was_served = true
			:: else
			fi;
			assert(!pending || others_cancel);
			pending = false; others_cancel = false
		};

		/* rsl_cancel_begin() */
		if
		:: atomic { !handling && doom != 0 } -> settle()
		:: atomic { !handling && doom == 0 }
		fi;
		assert(struck == 0);
		MINE statement = statement + 1; now = statement };	/* step: begin */

		/* it runs: CHECK_FOR_INTERRUPTS() at any time, or at none */
		failed = false;
		if
		:: atomic { !handling && pending -> pending = false; failed = true }
		:: true
		fi;
		if
		:: failed && CATCH && struck != 0 ->
			/* subxact_callback(): an EXCEPTION block has caught it */
#if MUTATE != 6
			MINE
				if
				:: !others_cancel && !pending -> was_caught = true; pending = true
				:: others_cancel -> user_was_served = true	/* the user's: caught for good */
				:: else
				fi
			};
#endif
			failed = false;
			/* rsl_cancel_insist() */
			if
			:: atomic { !handling && was_caught && pending -> pending = false; failed = true }
			:: atomic { !handling && !(was_caught && pending) }
			fi;
#if MUTATE == 6
			assert(failed || others_cancel);
#endif
		:: else
		fi;
		if
		:: failed ->
			/* rsl_cancel_failed() */
			MINE statement = statement + 1 };	/* step: failed */
			if
			:: atomic { !handling && doom == 0 } -> ours = false
			:: atomic { !handling && doom != 0 } ->
				MINE d = doom; doom = 0 };	/* step: take-request */
				MINE ours = struck != 0 && struck == d && !others_cancel };
				if
				:: struck != 0 ->
					MINE struck = 0; was_caught = false };
					MINE pending = false };
					MINE
						if
						:: others_cancel -> pending = true
						:: else
						fi
					}
				:: else
				fi;
				if
				:: ours -> assert(d == now); delivered++
				:: else -> count_missed(d)
				fi;
				d = 0
			fi;
			if
			:: !ours ->
				assert(user_has_cancelled);
				user_was_served = true
			:: else
			fi;
			ours = false
		:: else ->
			/* rsl_cancel_end() */
#if MUTATE == 5
			if
			:: atomic { !handling && doom != 0 } -> settle()
			:: atomic { !handling && doom == 0 }
			fi;
			MINE statement = statement + 1 }
#else
			MINE statement = statement + 1 };	/* step: end */
			if
			:: atomic { !handling && doom != 0 } -> settle()
			:: atomic { !handling && doom == 0 }
			fi
#endif
		fi;
		now = 0; failed = false
	od;

	/* rsl_cancel_detach(), when nobody signals any more */
	cancellers_done == CANCELLERS && sigusr2 == 0 && !sigint && !handling;
	MINE d = doom; doom = 0 };	/* step: take-request */
	count_missed(d);
	assert(delivered + missed == requested);
	over = true
}

/* rsl_cancel_statement() */
active [CANCELLERS] proctype canceller()
{
	byte read;

	read = statement;
	if
	:: read & 1 ->
		atomic {				/* step: request */
			if
#if MUTATE == 4
			:: true ->
#else
			:: doom == 0 ->
#endif
				doom = read;
				requested++
			:: else -> read = 0
			fi
		}
		if
		:: read != 0 -> sigusr2++
		:: else
		fi
	:: else
	fi;
	cancellers_done++
}

/* handle_doom() */
active proctype handler()
{
	byte d, s;

end_idle:
	do
	:: atomic { sigusr2 > 0 && !handling -> sigusr2 = 0; handling = true };
		if
		:: struck == 0 ->
			d = doom;			/* step: handler-doom */
			s = statement;		/* step: handler-statement */
			if
#if MUTATE == 1
			:: d != 0 ->
#else
			:: d == s && (s & 1) ->
#endif
				others_cancel = false;
				if
				:: pending -> others_cancel = true
				:: else
				fi;
				struck = d;
				pending = true
			:: else
			fi
		:: else
		fi;
		d = 0; s = 0;
		handling = false
	:: over -> break
	od
}

#if USER
/* handle_cancel(): it may come within the other handler, too */
active proctype user()
{
	atomic { user_has_cancelled = true; others_cancel = true; pending = true }
}
#endif
