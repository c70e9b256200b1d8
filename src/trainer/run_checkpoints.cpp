// SPDX-License-Identifier: Apache-2.0
#include "trainer/run_checkpoints.h"

#include <torch/torch.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "checkpoint/retention.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/log.h"
#include "torch_accelerated/base/version.h"

namespace torch_accelerated {
namespace {

// Removes what isn't wanted any more; that it can't is no reason to end a run.
template <class Body>
void tidy(const Body& body) {
  try {
    body();
  } catch (const std::exception& error) {
    log(LogLevel::kWarning, concat("checkpoints: ", error.what()));
  }
}

State with_copies(const State& state, HostCopies& copies) {
  State copied;
  for (const auto& [name, value] : state.values()) copied.set(name, value);
  for (const auto& [name, tensor] : copies.of(state.tensors())) copied.set_tensor(name, tensor);
  return copied;
}

}  // namespace

RunCheckpoints::RunCheckpoints(const CheckpointOptions& options, Accelerator& accelerator)
    : options_(options),
      accelerator_(&accelerator),
      root_(std::filesystem::absolute(options.directory)) {
  std::string token;
  accelerator.together("checkpoints", [&] {
    if (!accelerator.is_main_process()) return;
    root_.create();
    root_.lock();
    root_.clean();
    if (accelerator.world_size() > 1) token = root_.put_token();
  });
  if (accelerator.world_size() == 1) return;
  token = accelerator.gather_objects(token).front();
  accelerator.together("checkpoints", [&] {
    if (root_.has_token(token)) return;
    throw FileError(concat("checkpoints: rank ", accelerator.rank(),
                           " doesn't see what rank 0 has "
                           "written to '",
                           root_.path().string(), "'; give a directory that all hosts share"));
  });
  if (accelerator.is_main_process()) tidy([&] { root_.remove_token(token); });
}

void RunCheckpoints::save(const Label& label, const CheckpointContents& contents,
                          const TensorDict& of_rank) {
  finish();
  manifest_ = {.library = kVersion,
               .update = label.update,
               .world_size = accelerator_->world_size(),
               .is_kept = label.is_kept,
               .metric = label.metric};
  if (const auto why = begin_folder(label.update); !why.empty()) return tell_failure(why);
  newest_ = std::pair(label.update, label.in_epoch);
  start(work_for(contents, of_rank));
  stage_ = Stage::kWriting;
  if (!options_.asynchronous) finish();
}

// What this rank writes, from copies where training goes on meanwhile. That there is no memory for
// them fails this checkpoint as a full disk does, on all ranks.
std::function<void()> RunCheckpoints::work_for(const CheckpointContents& contents,
                                               const TensorDict& of_rank) {
  CheckpointContents shared = contents;
  TensorDict own = of_rank;
  try {
    if (options_.asynchronous) {
      own = rank_copies_.of(of_rank);
      shared.model = model_copies_.of(contents.model);
      shared.optimizers = with_copies(contents.optimizers, optimizer_copies_);
      shared.rest = with_copies(contents.rest, rest_copies_);
    }
  } catch (const std::exception& error) {
    return [why = concat("no copies for the writing thread: ", error.what())] {
      throw FileError(why);
    };
  }
  return [this, shared = std::move(shared), own = std::move(own)] {
    const auto mine = write_rank(system_io(), folder_, accelerator_->rank(), own);
    if (!accelerator_->is_main_process()) return;
    manifest_.files = write_contents(system_io(), folder_, shared);
    manifest_.files.push_back(mine);
    if (accelerator_->world_size() == 1) commit();
  };
}

// The main process chooses the name, so that all write into one folder; what it couldn't do is told
// to all. Gives the reason, empty where there is a folder.
std::string RunCheckpoints::begin_folder(std::int64_t update) {
  std::string name;
  std::string why;
  if (accelerator_->is_main_process()) {
    try {
      name = root_.begin(update).string();
    } catch (const std::exception& error) {
      why = error.what();
    }
  }
  folder_ = accelerator_->gather_objects(name).front();
  return folder_.empty() ? accelerator_->gather_objects(why).front() : std::string();
}

// Whatever becomes of the work, the other ranks hear that it has ended.
void RunCheckpoints::start(std::function<void()> work) {
  failure_.clear();
  accelerator_->withdraw_trigger(Trigger::kSaveFailed);
  accelerator_->set_trigger(Trigger::kSaving);
  try {
    task_.start([this, work = std::move(work)] {
      try {
        work();
        accelerator_->withdraw_trigger(Trigger::kSaving);
      } catch (const std::exception& error) {
        fail(error.what());
      }
    });
  } catch (const std::exception& error) {
    fail(concat("no thread to write it: ", error.what()));
  }
}

void RunCheckpoints::fail(const std::string& why) {
  failure_ = why;
  accelerator_->set_trigger(Trigger::kSaveFailed);
  accelerator_->withdraw_trigger(Trigger::kSaving);
}

void RunCheckpoints::commit() {
  for (int rank = 1; rank < accelerator_->world_size(); ++rank) {
    manifest_.files.push_back(summed_file(folder_ / rank_file(rank)));
  }
  root_.commit(folder_, manifest_);
  remove_old();
}

// Only after the new one is there, and never a reason to fail: it is there.
void RunCheckpoints::remove_old() {
  tidy([this] {
    const auto found = root_.scan();
    const auto old = to_remove(found, {.keep_newest = options_.keep_newest,
                                       .keep_best = options_.keep_best,
                                       .lower_is_better = options_.direction == Better::kLower});
    for (const auto index : old) root_.remove(found[index]);
  });
}

void RunCheckpoints::advance() {
  if (stage_ == Stage::kIdle || accelerator_->is_triggered(Trigger::kSaving)) return;
  task_.wait();
  if (accelerator_->is_triggered(Trigger::kSaveFailed)) return drop();
  const bool is_whole = stage_ == Stage::kCommitting || accelerator_->world_size() == 1;
  if (is_whole) {
    stage_ = Stage::kIdle;
    committed_.push_back({folder_, manifest_.update});
    return;
  }
  stage_ = Stage::kCommitting;
  if (accelerator_->is_main_process()) start([this] { commit(); });
}

// What failed is gone, and training goes on with the checkpoint before, or ends by the option.
void RunCheckpoints::drop() {
  stage_ = Stage::kIdle;
  const auto texts = accelerator_->gather_objects(std::exchange(failure_, {}));
  accelerator_->withdraw_trigger(Trigger::kSaveFailed);
  const auto first = std::find_if(texts.begin(), texts.end(),
                                  [](const std::string& text) { return !text.empty(); });
  if (accelerator_->is_main_process()) tidy([this] { root_.clean(); });
  tell_failure(first == texts.end() ? "a rank couldn't write" : *first);
}

void RunCheckpoints::tell_failure(const std::string& why) {
  newest_.reset();
  const auto what =
      concat("the checkpoint of update ", manifest_.update, " couldn't be saved: ", why);
  if (options_.on_failure == SaveFailure::kWarn) {
    if (accelerator_->is_main_process()) {
      log(LogLevel::kWarning, what + "; training goes on, earlier checkpoints are intact");
    }
    return;
  }
  FileError error(what);
  error.set_on_all_ranks();
  throw error;
}

void RunCheckpoints::finish() {
  while (stage_ != Stage::kIdle) {
    task_.wait();
    accelerator_->exchange_triggers();
    advance();
  }
}

}  // namespace torch_accelerated
