/*
 * budget.c - how much of a piece of work is done before it is kept.
 *
 * Counted in messages that come to nothing for the caller: unwanted ones, those put
 * aside, those that wait again or are given up. Time counts only after some of them, so
 * that a busy machine doesn't turn a small piece of work into several.
 */
#include "group/group.h"

#include "utils/timestamp.h"

#define STEP 128				/* messages between two looks at the clock */

/* For so many messages, and about so long; us 0: however long it takes. */
Budget
iotmq_budget(int messages, int64 us)
{
	return (Budget) {
		.messages = messages, .until = us == 0 ? DT_NOEND : GetCurrentTimestamp() + us
	};
}

/* One more message. */
void
iotmq_budget_spend(Budget *budget)
{
	budget->spent++;
	if (budget->spent >= budget->messages ||
		(budget->spent % STEP == 0 && GetCurrentTimestamp() >= budget->until))
		budget->is_used_up = true;
}
