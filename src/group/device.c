/*
 * device.c - sets of devices, above all those of an orderly group in flight.
 *
 * These are read from the open leases of the cursor, under the lock on its position: no
 * other transaction can lease meanwhile, and a lease whose settling is not
 * committed still counts.
 */
#include "iotmq.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

struct DeviceSet
{
	HTAB	   *table;			/* of text pointers */
};

static uint32
hash_device(const void *key, Size size)
{
	text	   *device = *(text *const *) key;

	return hash_bytes((const unsigned char *) VARDATA_ANY(device), VARSIZE_ANY_EXHDR(device));
}

static int
compare_devices(const void *a, const void *b, Size size)
{
	text	   *x = *(text *const *) a;
	text	   *y = *(text *const *) b;

	return VARSIZE_ANY_EXHDR(x) != VARSIZE_ANY_EXHDR(y) ||
		memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) != 0;
}

/* An empty set. */
DeviceSet *
iotmq_devices_none(void)
{
	HASHCTL		ctl = {
		.keysize = sizeof(text *), .entrysize = sizeof(text *), .hash = hash_device,
		.match = compare_devices, .hcxt = CurrentMemoryContext
	};
	DeviceSet  *set = palloc(sizeof(DeviceSet));

	set->table = hash_create("iotmq devices", 64, &ctl,
							 HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	return set;
}

/* Adds a device, which must stay where it is in memory; NULL: nothing. */
void
iotmq_devices_add(DeviceSet *set, text *device)
{
	if (device != NULL)
		(void) hash_search(set->table, &device, HASH_ENTER, NULL);
}

bool
iotmq_devices_have(DeviceSet *set, text *device)
{
	return hash_search(set->table, &device, HASH_FIND, NULL) != NULL;
}

/* The devices of all open messages of the cursor; notes its oldest open lease. */
DeviceSet *
iotmq_devices_in_flight(Position *position)
{
	DeviceSet  *set = iotmq_devices_none();
	RowScan		scan = iotmq_lease_scan(position->cursor_id, position->oldest_lease);
	Lease		lease;
	int64		oldest = 0;

	while (iotmq_lease_scan_next(&scan, &lease))
	{
		if (oldest == 0)
			oldest = lease.lease_id;
		for (int i = 0; lease.devices != NULL && i < lease.n; i++)
			if (!iotmq_lease_is_settled(&lease, i))
				iotmq_devices_add(set, lease.devices[i]);
	}
	iotmq_row_scan_end(&scan);
	position->oldest_lease = oldest != 0 ? oldest : position->last_lease + 1;
	return set;
}
