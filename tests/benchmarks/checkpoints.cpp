// SPDX-License-Identifier: Apache-2.0
//
// benchmark_checkpoints FOLDER [ROUNDS]: what a run's checkpoints cost, for 100 M parameters with
// the state of Adam (1.2 GB), interleaved in one process: a plain write and fsync of as many bytes,
// a Trainer's save_checkpoint that writes before it returns, and one that writes beside the
// training; a plain read into fresh memory, and a Trainer's start that resumes. Prints a table of
// medians and one line of JSON.
#include <fcntl.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "torch_accelerated/torch_accelerated.h"

namespace ta = torch_accelerated;
namespace fs = std::filesystem;

namespace {

constexpr int kLayers = 25;
constexpr std::int64_t kPerLayer = 4'000'000;  // 100 M parameters
constexpr std::size_t kBytes = std::size_t{kLayers} * kPerLayer * 3 * sizeof(float);

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

// @param into  memory for `kBytes`
void plain_read(const fs::path& path, char* into) {
  const int file = ::open(path.c_str(), O_RDONLY);
  require(file >= 0, "open");
  for (std::size_t done = 0; done < kBytes;) {
    const auto got = ::read(file, into + done, kBytes - done);
    require(got > 0, "read");
    done += static_cast<std::size_t>(got);
  }
  ::close(file);
}

struct Layers : torch::nn::Module {
  Layers() {
    for (int i = 0; i < kLayers; ++i) {
      register_parameter("layer" + std::to_string(i), torch::ones({kPerLayer}));
    }
  }
};

/// A model, and Adam over it, which has no state before its first step.
struct Trained {
  Trained() : layers(std::make_shared<Layers>()), adam(layers->parameters(), 0.001) {}

  void step() {
    for (auto& parameter : layers->parameters()) {
      parameter.mutable_grad() = torch::randn({kPerLayer});
      parameter.grad().mul_(0.01);
    }
    adam.step();
    adam.zero_grad();
  }

  std::shared_ptr<Layers> layers;
  torch::optim::Adam adam;
};

class Counting : public ta::Callback, public ta::OnCheckpoint {
 public:
  void on_checkpoint_committed(ta::Trainer&, const ta::CheckpointCommitted& event) override {
    *newest = event.folder;
  }
  std::shared_ptr<fs::path> newest = std::make_shared<fs::path>();
};

/// A run of the program's own loop whose steps cost nothing and change nothing.
class Standing : public ta::Trainer {
 public:
  explicit Standing(Trained& trained)
      : Trainer(ta::Model(trained.layers, [](const ta::Batch& batch) { return batch; }),
                torch::nn::MSELoss(), trained.adam, ta::CallbackList()),
        newest_(callbacks().add(Counting()).newest) {}

  void begin(const fs::path& directory, bool asynchronous) {
    start(
        {.checkpoints = {.directory = directory, .asynchronous = asynchronous, .keep_newest = {}}});
    step();
  }

  // What the training thread pays for a checkpoint.
  double seconds_of_save() {
    newest_->clear();
    step();
    return seconds_of([this] { save_checkpoint(); });
  }

  // The one that was saved last, when it is there.
  fs::path committed() {
    while (newest_->empty()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      step();
    }
    return *newest_;
  }

  void step() { Trainer::step({{"data", torch::zeros({1})}}); }

 protected:
  ta::StepOutput train_step(const ta::Batch& /*batch*/) override {
    return {torch::zeros({}), {}, {}};
  }

 private:
  std::shared_ptr<fs::path> newest_;
};

// Into a model that is there, as in a program that starts, and an optimizer that has no state yet.
double seconds_of_resume(const fs::path& checkpoint) {
  Trained fresh;
  Standing again(fresh);
  const auto seconds = seconds_of([&] { again.start({.resume_from = checkpoint}); });
  require(again.progress().update > 0 && fresh.adam.state().size() == kLayers, "resume");
  again.finish();
  return seconds;
}

struct Times {
  std::vector<double> write, save, stall, read, resume;
};

void print(const Times& times, int rounds) {
  const double w = median(times.write), s = median(times.save), a = median(times.stall),
               r = median(times.read), l = median(times.resume);
  std::printf("%-28s %8s %8s\n", "1.2 GB, medians", "s", "ratio");
  std::printf("%-28s %8.3f %8s\n", "plain write + fsync", w, "");
  std::printf("%-28s %8.3f %8.2f  of the plain write\n", "synchronous save", s, s / w);
  std::printf("%-28s %8.3f %8.2f  of the synchronous save\n", "stall of an asynchronous one", a,
              a / s);
  std::printf("%-28s %8.3f %8s\n", "plain read, fresh memory", r, "");
  std::printf("%-28s %8.3f %8.2f  of the plain read\n", "resume", l, l / r);
  std::printf(
      "{\"rounds\": %d, \"plain_write\": %.4f, \"save\": %.4f, \"stall\": %.4f, "
      "\"plain_read\": %.4f, \"load\": %.4f}\n",
      rounds, w, s, a, r, l);
}

Times measure(const fs::path& directory, int rounds) {
  Trained trained;
  trained.step();
  Standing now(trained);
  Standing beside(trained);
  now.begin(directory / "synchronous", /*asynchronous=*/false);
  beside.begin(directory / "asynchronous", /*asynchronous=*/true);
  const std::vector<char> bytes(kBytes, 'x');
  Times times;
  for (int round = -1; round < rounds; ++round) {
    const auto write = seconds_of([&] { plain_write(directory / "plain", bytes); });
    const auto save = now.seconds_of_save();
    std::unique_ptr<char[]> memory(new char[kBytes]);  // the system gives it page by page
    const auto read = seconds_of([&] { plain_read(directory / "plain", memory.get()); });
    memory.reset();
    const auto resume = seconds_of_resume(now.committed());
    const auto stall = beside.seconds_of_save();
    fs::remove_all(beside.committed());
    fs::remove_all(now.committed());
    fs::remove(directory / "plain");
    if (round < 0) continue;  // the first one warms up, as the first save of a run does
    times.write.push_back(write);
    times.save.push_back(save);
    times.stall.push_back(stall);
    times.read.push_back(read);
    times.resume.push_back(resume);
  }
  now.finish();
  beside.finish();
  return times;
}

}  // namespace

int main(int argc, char** argv) {
  const fs::path directory = argc > 1 ? argv[1] : "benchmark-checkpoints";
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  fs::create_directories(directory);
  return ta::run([&] { print(measure(directory, rounds), rounds); });
}
