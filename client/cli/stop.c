/*
 * SIGTERM and SIGINT end a verb after what it has begun; a second one ends it at once.
 *
 * The signals are blocked and read from a descriptor, so that none comes between a look and
 * the poll, and other loops can poll it, too.
 */

#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "verb.h"

#define MOST_FDS 528

static int	signals = -1;
static sigset_t outside;		/* what was blocked before */
static bool stop;

void
stop_on_signals(void)
{
	sigset_t	ours;

	sigemptyset(&ours);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGINT);
	sigprocmask(SIG_BLOCK, &ours, &outside);
	signals = signalfd(-1, &ours, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* Can be read from when a signal has come; -1: there is no more to come */
int
stop_fd(void)
{
	return stop ? -1 : signals;
}

/* The second signal does what it does in other programs. */
bool
stop_wanted(void)
{
	struct signalfd_siginfo info;

	if (!stop && signals >= 0 && read(signals, &info, sizeof(info)) > 0)
	{
		stop = true;
		sigprocmask(SIG_SETMASK, &outside, NULL);
	}
	return stop;
}

/*
 * Like poll, until that moment of iotmq_now; INFINITY: as long as it takes.  Returns at a
 * signal, too.  At most 527 descriptors.
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
	if (poll(all, (nfds_t) count + 1, (int) ceil(left * 1000)) < 0)
		return;
	if (count > 0)
		memcpy(fds, all, sizeof(*fds) * (size_t) count);
}

/* What a child that runs another program inherits is as if nothing had been blocked. */
void
stop_not_in_child(void)
{
	sigprocmask(SIG_SETMASK, &outside, NULL);
}
