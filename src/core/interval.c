/*
 * interval.c - lengths of time.
 */
#include "core/core.h"

#include <math.h>

#include "utils/timestamp.h"

/* Microseconds, with 24 hours a day and 30 days a month; 22023 beyond 10,000 years. */
int64
iotmq_interval_us(Interval *interval)
{
	double		us = (double) interval->time +
		(interval->day + interval->month * (double) DAYS_PER_MONTH) * USECS_PER_DAY;

	if (fabs(us) > 3652500.0 * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("interval out of range")));
	return interval->time +
		(interval->day + interval->month * (int64) DAYS_PER_MONTH) * USECS_PER_DAY;
}
