/*-------------------------------------------------------------------------
 *
 * queue_model.h
 *		A model of a server with a limit and a queue, for the simulation of
 *		the dimmer.
 *
 * A discrete-event simulation: transactions come (as a Poisson stream, or
 * from clients that think in between), wait in a queue of bounded length for
 * a bounded time until one of the slots is free, and take a while, longer if
 * the optional part is served too.  Each transaction asks whether it is when
 * it begins, with the theta of that moment.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SIM_QUEUE_MODEL_H
#define RSL_SIM_QUEUE_MODEL_H

#define MAX_SLOTS		256
#define MAX_QUEUE		4096
#define MAX_CLIENTS		4096

typedef struct queue_plant
{
	const char *name;
	int			slots;
	int			clients;		/* 0 = an open stream */
	double		think;			/* seconds, of a client at load 1 */
	double		base;			/* seconds, exponentially distributed */
	double		optional;		/* seconds more */
	double		share;			/* of transactions that have such a part */
	int			max_waiting;
	double		max_wait;		/* seconds */
} queue_plant;

typedef struct queue_model
{
	const queue_plant *plant;
	random_source random;
	double		now;
	double		load;			/* of what can be done in full service */
	double		theta;

	double		busy_until[MAX_SLOTS];	/* INFINITY = free */
	double		queue[MAX_QUEUE];	/* since when, a ring */
	int			head;
	int			nqueue;
	int			active;			/* clients at once, of a closed model */
	double		wakes[MAX_CLIENTS]; /* of a thinking client; INFINITY = none */
	double		next_arrival;

	/* since the last look */
	double		wait;
	int			started;
	int			given_up;
	int			optional;
	int			with_part;
} queue_model;

static double
exponential(random_source *random, double mean)
{
	return -log(1 - random_double(random)) * mean;
}

/* Transactions per second that the plant can do at a share of full service. */
static double
plant_capacity(const queue_plant *plant, double theta)
{
	return plant->slots / (plant->base + plant->share * theta * plant->optional);
}

static double
next_gap(queue_model *m)
{
	if (m->load <= 0)
		return INFINITY;
	return exponential(&m->random, 1 / (m->load * plant_capacity(m->plant, 1)));
}

static void
model_start(queue_model *m, const queue_plant *plant, int seed)
{
	memset(m, 0, sizeof(*m));
	m->plant = plant;
	m->random.state = UINT64_C(0x9E3779B97F4A7C15) * (seed + 1);
	m->theta = 1;
	for (int i = 0; i < plant->slots; i++)
		m->busy_until[i] = INFINITY;
	for (int i = 0; i < MAX_CLIENTS; i++)
		m->wakes[i] = INFINITY;
	m->next_arrival = INFINITY;
}

/* Another load from now on.  Of a closed model: so many times the clients. */
static void
model_load(queue_model *m, double load)
{
	m->load = load;
	if (m->plant->clients == 0)
	{
		m->next_arrival = m->now + next_gap(m);
		return;
	}
	for (int wanted = (int) (m->plant->clients * load + 0.5); m->active < wanted; m->active++)
	{
		for (int i = 0; i < MAX_CLIENTS; i++)
		{
			if (isinf(m->wakes[i]))
			{
				m->wakes[i] = m->now + exponential(&m->random, m->plant->think);
				break;
			}
		}
	}
}

/* Clients that have had enough of it leave when their transaction ends. */
static void
client_thinks(queue_model *m)
{
	if (m->plant->clients == 0)
		return;
	if (m->active > (int) (m->plant->clients * m->load + 0.5))
	{
		m->active--;
		return;
	}
	for (int i = 0; i < MAX_CLIENTS; i++)
	{
		if (isinf(m->wakes[i]))
		{
			m->wakes[i] = m->now + exponential(&m->random, m->plant->think);
			return;
		}
	}
}

static void
model_begin(queue_model *m, int slot, double since)
{
	double		time = exponential(&m->random, m->plant->base);

	m->wait += m->now - since;
	m->started++;
	if (random_double(&m->random) < m->plant->share)
	{
		m->with_part++;
		if (random_double(&m->random) < m->theta)
		{
			m->optional++;
			time += exponential(&m->random, m->plant->optional);
		}
	}
	m->busy_until[slot] = m->now + time;
}

static void
model_give_up(queue_model *m, double since)
{
	m->wait += m->now - since;
	m->given_up++;
	client_thinks(m);
}

static void
model_arrive(queue_model *m)
{
	for (int i = 0; i < m->plant->slots; i++)
	{
		if (isinf(m->busy_until[i]))
		{
			model_begin(m, i, m->now);
			return;
		}
	}
	if (m->nqueue >= m->plant->max_waiting)
	{
		client_thinks(m);		/* refused at once: has not waited */
		return;
	}
	m->queue[(m->head + m->nqueue++) % MAX_QUEUE] = m->now;
}

/* Go on until then. */
static void
model_run(queue_model *m, double until)
{
	for (;;)
	{
		double		next = until;
		int			what = 0;
		int			which = 0;

		if (m->next_arrival < next)
			next = m->next_arrival, what = 1;
		if (m->plant->clients > 0)
		{
			for (int i = 0; i < MAX_CLIENTS; i++)
			{
				if (m->wakes[i] < next)
					next = m->wakes[i], what = 2, which = i;
				if (i > m->active + 64)
					break;
			}
		}
		for (int i = 0; i < m->plant->slots; i++)
		{
			if (m->busy_until[i] < next)
				next = m->busy_until[i], what = 3, which = i;
		}
		if (m->nqueue > 0 && m->queue[m->head] + m->plant->max_wait < next)
			next = m->queue[m->head] + m->plant->max_wait, what = 4;

		m->now = next;
		switch (what)
		{
			case 0:
				return;
			case 1:
				m->next_arrival = m->now + next_gap(m);
				model_arrive(m);
				break;
			case 2:
				m->wakes[which] = INFINITY;
				model_arrive(m);
				break;
			case 3:
				m->busy_until[which] = INFINITY;
				client_thinks(m);
				if (m->nqueue > 0)
				{
					double		since = m->queue[m->head];

					m->head = (m->head + 1) % MAX_QUEUE;
					m->nqueue--;
					model_begin(m, which, since);
				}
				break;
			case 4:
				{
					double		since = m->queue[m->head];

					m->head = (m->head + 1) % MAX_QUEUE;
					m->nqueue--;
					model_give_up(m, since);
				}
				break;
		}
	}
}

/* The mean wait in ms since the last look, as the launcher measures it. */
static double
model_look(queue_model *m)
{
	int			n = m->started + m->given_up;
	double		wait = n > 0 ? m->wait / n * 1000 : 0;

	m->wait = 0;
	m->started = m->given_up = 0;
	return wait;
}

#endif							/* RSL_SIM_QUEUE_MODEL_H */
