/*
 * model_record.h: what is known of a training besides its parameters, as bytes
 * and back: between processes, and between databases.
 */
#ifndef MOE_MODEL_RECORD_H
#define MOE_MODEL_RECORD_H

#include "extension/model_catalog.h"
#include "kernels/buffer.h"

/* All but id and created_at. epochs: of moe_model_epoch *, experts: of moe_model_expert *. Failures stand in the
 * buffer's job. */
void moe_record_write(moe_buffer *out, const moe_model_record *record, List *epochs, List *experts);
/*
 * Read it back; bytes are hostile. Damage is recorded in the reader's job as MOE_CORRUPT. What refers to objects of the
 * database that wrote it (label_type, and the SQL of the queries) is read as it stands: the caller knows whether it
 * comes from this database.
 */
moe_code moe_record_read(moe_reader *in, moe_model_record *record, List **epochs, List **experts);

#endif
