/*
 * delivery.c - rows of type delivery, collected for a set-returning function.
 *
 * Rows are copied whole, toasted values fetched: they outlive the lock on the
 * segment that they come from.
 */
#include "group/group.h"

#include "access/detoast.h"
#include "funcapi.h"
#include "nodes/execnodes.h"
#include "utils/tuplestore.h"

/* Columns of type delivery. */
enum
{
	Anum_delivery_lease_id = 1, Anum_delivery_zone, Anum_delivery_msg_offset,
	Anum_delivery_device_id, Anum_delivery_tag, Anum_delivery_payload, Anum_delivery_body,
	Anum_delivery_properties, Anum_delivery_published_at, Anum_delivery_attempt,
	Anum_delivery_message_key,
	Natts_delivery = Anum_delivery_message_key
};

/* Where each column of a topic table goes. */
static const AttrNumber places[Natts_message] = {
	Anum_delivery_zone, Anum_delivery_msg_offset, Anum_delivery_published_at,
	Anum_delivery_device_id, Anum_delivery_tag, Anum_delivery_payload,
	Anum_delivery_body, Anum_delivery_properties, Anum_delivery_message_key
};

/* Turns the function call into one that returns a set of rows, empty so far. */
DeliverySet
iotmq_delivery_begin(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result;
	DeliverySet set = {0};

	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	set.store = result->setResult;
	set.desc = result->setDesc;
	return set;
}

/* Adds the message in slot (a row of a topic table); lease_id 0 stands for NULL. */
void
iotmq_delivery_add(DeliverySet *set, int64 lease_id, TupleTableSlot *slot, int attempt)
{
	Datum		values[Natts_delivery];
	bool		isnull[Natts_delivery];

	slot_getsomeattrs(slot, Natts_message);
	for (int i = 0; i < Natts_message; i++)
	{
		int			place = places[i] - 1;

		values[place] = slot->tts_values[i];
		isnull[place] = slot->tts_isnull[i];
		if (i + 1 >= Anum_payload && !isnull[place] &&
			VARATT_IS_EXTERNAL(DatumGetPointer(values[place])))
			values[place] = PointerGetDatum(detoast_external_attr((struct varlena *)
																  DatumGetPointer(values[place])));
	}
	values[Anum_delivery_lease_id - 1] = Int64GetDatum(lease_id);
	isnull[Anum_delivery_lease_id - 1] = lease_id == 0;
	values[Anum_delivery_attempt - 1] = Int32GetDatum(attempt);
	isnull[Anum_delivery_attempt - 1] = false;
	tuplestore_putvalues(set->store, set->desc, values, isnull);
	set->rows++;
}
