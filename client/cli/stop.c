/*
 * SIGTERM and SIGINT end a verb after what it has begun; a second one ends it at once,
 * whatever it is in: a connection that can't be made, a server that doesn't answer.
 *
 * The first one is written to a pipe, so that none is lost between a look and the poll, and
 * other loops can poll it, too.
 */

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "verb.h"

#define MOST_FDS 1056

static int	ends[2] = {-1, -1};	/* of the pipe */
static bool stop;

/* The next signal does what it does in other programs. */
static void
note_signal(int number)
{
	int			error = errno;

	(void) number;
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	if (write(ends[1], "", 1) != 1)
		abort();
	errno = error;
}

void
stop_on_signals(void)
{
	struct sigaction action = {.sa_handler = note_signal,.sa_flags = SA_RESTART};

	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0)
		abort();
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGCHLD, SIG_DFL);	/* ignored by whoever has started us, commands would have no end */
}

/* Can be read from when a signal has come; -1: there is no more to come */
int
stop_fd(void)
{
	return stop ? -1 : ends[0];
}

bool
stop_wanted(void)
{
	char		byte;

	if (!stop && read(ends[0], &byte, 1) == 1)
		stop = true;
	return stop;
}

/*
 * Like poll, until that moment of iotmq_now; INFINITY: as long as it takes.  Returns at a
 * signal, too, once.  At most 1,055 descriptors.
 */
void
stop_poll(struct pollfd *fds, int count, double until)
{
	struct pollfd all[MOST_FDS];
	double		left = fmin(fmax(until - iotmq_now(), 0), 86400);

	if (count > 0)
		memcpy(all, fds, sizeof(*fds) * (size_t) count);
	all[count] = (struct pollfd)
	{
		.fd = stop_fd(),.events = POLLIN
	};
	if (poll(all, (nfds_t) count + 1, (int) ceil(left * 1000)) >= 0 && count > 0)
		memcpy(fds, all, sizeof(*fds) * (size_t) count);
	(void) stop_wanted();		/* or the next one would return at once */
}

/* What a child gets until it runs another program is not for us. */
void
stop_not_in_child(void)
{
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
}
