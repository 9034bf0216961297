/*
 * device.c - sets of devices, above all those of an orderly group in flight.
 *
 * These are read from the open leases of the cursor, under the lock on the cursor: no
 * other transaction can lease meanwhile, and a lease whose settling is not
 * committed still counts.
 */
#include "group/group.h"

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
	return !iotmq_device_equal(*(text *const *) a, *(text *const *) b);
}

bool
iotmq_device_equal(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* An empty set. */
DeviceSet *
iotmq_device_set(void)
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
iotmq_device_add(DeviceSet *set, text *device)
{
	if (device != NULL)
		(void) hash_search(set->table, &device, HASH_ENTER, NULL);
}

bool
iotmq_device_has(DeviceSet *set, text *device)
{
	return hash_search(set->table, &device, HASH_FIND, NULL) != NULL;
}

/* The devices of all open messages of the cursor, and its oldest open lease (0: none). */
DeviceSet *
iotmq_device_in_flight(const CursorState *state, int64 *oldest_lease)
{
	DeviceSet  *set = iotmq_device_set();
	RowScan		scan = iotmq_lease_scan(state);
	Lease		lease;

	*oldest_lease = 0;
	while (iotmq_lease_scan_next(&scan, &lease))
	{
		if (*oldest_lease == 0)
			*oldest_lease = lease.lease_id;
		iotmq_lease_read_devices(&lease);
		for (int i = 0; lease.devices != NULL && i < lease.n; i++)
			if (!iotmq_lease_is_settled(&lease, i))
				iotmq_device_add(set, lease.devices[i]);
	}
	iotmq_row_scan_end(&scan);
	return set;
}
