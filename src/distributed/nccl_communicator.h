// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "distributed/nccl_device.h"
#include "torch_accelerated/distributed/communicator.h"

namespace torch_accelerated {

/// Whether the library was built with NCCL.
bool has_nccl();

/// Moves tensors on `device` between the ranks of `control` by NCCL; those on the CPU, and bytes,
/// go over a duplicate of `control`. Collective.
///
/// Operations run on a stream of the communicator's own, after what the current stream has to do;
/// the current stream waits for their end, and the host doesn't. The host waits in `barrier`, in
/// `close` and where sizes have to be exchanged first (`all_gather`, `all_to_all`), looking for
/// errors, up to the timeout. An error at another time is found by the next operation or `wait`.
/// Two communicators on one device have a stream each, so that operations of one don't queue behind
/// those of the other.
///
/// A sum in kRankOrder adds in the order that NCCL chooses; in kPairwise it is the CPU's, bit for
/// bit.
/// @param device   a CUDA device that no other rank uses; without an index the current one.
/// @throws StateError          the library was built without NCCL.
/// @throws CommunicationError  on all ranks, when one of them can't take part.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, c10::Device device);

/// The same over another backend than NCCL and CUDA, for tests.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, c10::Device device,
                                                     detail::NcclBackend backend);

}  // namespace torch_accelerated
