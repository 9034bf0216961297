/*
 * SIGTERM and SIGINT end a verb after what it has begun; a second one ends it at once.
 *
 * The signals are blocked but while the program polls, so that none comes between a look
 * at the flag and the poll.
 */

#include <math.h>
#include <signal.h>

#include "verb.h"

static volatile sig_atomic_t stop;
static sigset_t outside;		/* the signals that are blocked while polling */

static void
handle(int signal)
{
	(void) signal;
	stop = 1;
}

void
stop_on_signals(void)
{
	struct sigaction action = {.sa_handler = handle,.sa_flags = (int) SA_RESETHAND};
	sigset_t	ours;

	sigemptyset(&ours);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGINT);
	sigemptyset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigprocmask(SIG_BLOCK, &ours, &outside);
}

bool
stop_wanted(void)
{
	return stop;
}

/*
 * Like poll, until that moment of iotmq_now; INFINITY: as long as it takes.  Returns at a
 * signal, too.
 */
int
stop_poll(struct pollfd *fds, int count, double until)
{
	double		left = fmax(until - iotmq_now(), 0);
	struct timespec timeout;

	if (isinf(left))
		return ppoll(fds, (nfds_t) count, NULL, &outside);
	timeout.tv_sec = (time_t) fmin(left, 86400);
	timeout.tv_nsec = (long) ((left - floor(left)) * 1e9);
	return ppoll(fds, (nfds_t) count, &timeout, &outside);
}

/* What a child that runs another program inherits is as if nothing had been blocked. */
void
stop_not_in_child(void)
{
	sigprocmask(SIG_SETMASK, &outside, NULL);
}
