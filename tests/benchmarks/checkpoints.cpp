// SPDX-License-Identifier: Apache-2.0
//
// benchmark_checkpoints FOLDER [ROUNDS]: what saving and loading cost, for 100 M parameters with
// the state of Adam (1.2 GB), interleaved in one process: a plain write and fsync of as many bytes,
// a synchronous save, the stall of an asynchronous one; a plain read, and a load. Prints a table of
// medians and one line of JSON.
#include <fcntl.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/background_task.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/checkpoint_folder.h"
#include "checkpoint/host_copies.h"
#include "checkpoint/tensor_file.h"
#include "torch_accelerated/torch_accelerated.h"

namespace ta = torch_accelerated;
namespace fs = std::filesystem;

namespace {

constexpr int kLayers = 25;
constexpr std::int64_t kPerLayer = 4'000'000;  // 100 M parameters

double seconds_of(const std::function<void()>& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void require(bool holds, const char* what) {
  if (holds) return;
  std::perror(what);
  std::exit(1);
}

void plain_write(const fs::path& path, const std::vector<char>& bytes) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  require(file >= 0, "open");
  for (std::size_t done = 0; done < bytes.size();) {
    const auto written = ::write(file, bytes.data() + done, bytes.size() - done);
    require(written > 0, "write");
    done += static_cast<std::size_t>(written);
  }
  require(::fsync(file) == 0 && ::close(file) == 0, "fsync");
}

void plain_read(const fs::path& path, std::vector<char>& bytes) {
  const int file = ::open(path.c_str(), O_RDONLY);
  require(file >= 0, "open");
  for (std::size_t done = 0; done < bytes.size();) {
    const auto got = ::read(file, bytes.data() + done, bytes.size() - done);
    require(got > 0, "read");
    done += static_cast<std::size_t>(got);
  }
  ::close(file);
}

struct Contents {
  ta::CheckpointContents shared;
  ta::TensorDict rank;
};

Contents make_contents() {
  Contents contents;
  for (int i = 0; i < kLayers; ++i) {
    const auto name = "layer" + std::to_string(i) + ".weight";
    contents.shared.model.set(name, torch::randn({kPerLayer}));
    contents.shared.optimizers.set_tensor(name + "/exp_avg", torch::randn({kPerLayer}));
    contents.shared.optimizers.set_tensor(name + "/exp_avg_sq", torch::rand({kPerLayer}));
  }
  contents.rank.set("rows", torch::zeros({}, torch::kInt64));
  return contents;
}

void save(ta::CheckpointFolder& folder, const Contents& contents, std::int64_t update) {
  const auto checkpoint = folder.begin(update);
  ta::Manifest manifest{.library = ta::kVersion, .update = update};
  manifest.files = ta::write_contents(ta::system_io(), checkpoint, contents.shared);
  manifest.files.push_back(ta::write_rank(ta::system_io(), checkpoint, 0, contents.rank));
  folder.commit(checkpoint, manifest);
}

void load(const fs::path& checkpoint, const Contents& into) {
  const ta::SavedCheckpoint saved(checkpoint);
  const auto model = saved.model();
  for (const auto& entry : model->tensors()) {
    ta::read_into(*model, entry, into.shared.model[entry.name]);
  }
  const auto optimizer = ta::open_tensors((checkpoint / "optimizer.safetensors").string());
  for (const auto& entry : optimizer->tensors()) {
    ta::read_into(*optimizer, entry, into.shared.optimizers.tensor(entry.name));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const fs::path directory = argc > 1 ? argv[1] : "benchmark-checkpoints";
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  const auto contents = make_contents();
  ta::CheckpointFolder folder(directory);
  folder.create();
  folder.lock();
  folder.clean();
  std::vector<char> bytes(static_cast<std::size_t>(kLayers * kPerLayer) * 3 * sizeof(float), 'x');
  ta::HostCopies model_copies, optimizer_copies;
  ta::BackgroundTask task;
  std::vector<double> write, save_now, stall, read, read_all;
  std::int64_t update = 0;
  for (int round = -1; round < rounds; ++round) {  // the first one warms up
    const auto plain = seconds_of([&] { plain_write(directory / "plain", bytes); });
    const auto synchronous = seconds_of([&] { save(folder, contents, ++update); });
    const auto saved = folder.scan().back();
    const auto plain_load = seconds_of([&] { plain_read(directory / "plain", bytes); });
    const auto loaded = seconds_of([&] { load(saved.path, contents); });
    Contents copies;
    const auto stalled = seconds_of([&] {
      copies.shared.model = model_copies.of(contents.shared.model);
      for (const auto& [name, tensor] : optimizer_copies.of(contents.shared.optimizers.tensors())) {
        copies.shared.optimizers.set_tensor(name, tensor);
      }
      copies.rank = contents.rank;
      task.start([&] { save(folder, copies, ++update); });
    });
    task.wait();
    for (const auto& found : folder.scan()) folder.remove(found);
    fs::remove(directory / "plain");
    if (round < 0) continue;
    write.push_back(plain);
    save_now.push_back(synchronous);
    stall.push_back(stalled);
    read.push_back(plain_load);
    read_all.push_back(loaded);
  }
  const double w = median(write), s = median(save_now), a = median(stall), r = median(read),
               l = median(read_all);
  std::printf("%-28s %8s %8s\n", "1.2 GB, medians", "s", "ratio");
  std::printf("%-28s %8.3f %8s\n", "plain write + fsync", w, "");
  std::printf("%-28s %8.3f %8.2f  of the plain write\n", "synchronous save", s, s / w);
  std::printf("%-28s %8.3f %8.2f  of the synchronous save\n", "stall of an asynchronous one", a,
              a / s);
  std::printf("%-28s %8.3f %8s\n", "plain read", r, "");
  std::printf("%-28s %8.3f %8.2f  of the plain read\n", "load", l, l / r);
  std::printf(
      "{\"rounds\": %d, \"plain_write\": %.4f, \"save\": %.4f, \"stall\": %.4f, "
      "\"plain_read\": %.4f, \"load\": %.4f}\n",
      rounds, w, s, a, r, l);
  return 0;
}
